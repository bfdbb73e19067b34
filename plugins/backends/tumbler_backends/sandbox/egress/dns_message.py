"""Read DNS questions and write answers (RFC 1035): one question, no compression; decides nothing."""

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

__all__ = ["Code", "Kind", "MalformedQuestion", "Question", "answer", "read_question"]

_HEADER: Final = struct.Struct("!HHHHHH")
_TAIL: Final = struct.Struct("!HH")
_RECORD: Final = struct.Struct("!HHHIH")
_IS_ANSWER: Final = 0x8000
_OPCODE: Final = 0x7800
_RECURSION_DESIRED: Final = 0x0100
_RECURSION_AVAILABLE: Final = 0x0080
_NAME_OF_QUESTION: Final = 0xC000 | _HEADER.size
_INTERNET: Final = 1
_MAX_LABEL: Final = 63
_MAX_NAME_BYTES: Final = 255
_TTL_S: Final = 60


class Code(IntEnum):
    """How a question was answered."""

    NO_ERROR = 0
    FORMAT_ERROR = 1
    NAME_ERROR = 3
    """The name does not exist (NXDOMAIN)."""
    NOT_IMPLEMENTED = 4
    REFUSED = 5


class Kind(IntEnum):
    """The kinds of record that a stub resolver commonly asks for."""

    A = 1
    AAAA = 28
    SVCB = 64
    HTTPS = 65


@dataclass(frozen=True, kw_only=True)
class Question:
    """What was asked."""

    identity: int
    flags: int
    name: str
    """In lower case and without the final dot; bytes outside of ASCII are written as `\\xNN`."""
    kind: int
    raw: bytes
    """The question's section as it came."""


class MalformedQuestion(ValueError):
    """No question that can be answered; `reply` is what to send back, if anything."""

    def __init__(self, message: str, reply: bytes | None = None) -> None:
        """Keep the reply beside the message."""
        super().__init__(message)
        self.reply = reply


def read_question(packet: bytes) -> Question:
    """Read the one question of a query; raises `MalformedQuestion`, and nothing else, whatever the bytes."""
    if len(packet) < _HEADER.size:
        raise MalformedQuestion("shorter than a DNS header")
    identity, flags, questions, _, _, _ = _HEADER.unpack_from(packet)
    if flags & _IS_ANSWER:
        raise MalformedQuestion("an answer, not a question")
    if flags & _OPCODE:
        raise MalformedQuestion("another operation than a query", _reply(identity, flags, Code.NOT_IMPLEMENTED))
    try:
        if questions != 1:
            raise ValueError(f"{questions} questions instead of one")
        name, end = _read_name(packet)
        kind, family = _TAIL.unpack_from(packet, end)
        if family != _INTERNET:
            raise ValueError(f"class {family} instead of the internet's")
    except (ValueError, IndexError, struct.error) as error:
        raise MalformedQuestion(str(error), _reply(identity, flags, Code.FORMAT_ERROR)) from error
    raw = packet[_HEADER.size : end + _TAIL.size]
    return Question(identity=identity, flags=flags, name=name, kind=kind, raw=raw)


def answer(question: Question, code: Code, addresses: Sequence[ipaddress.IPv4Address] = ()) -> bytes:
    """Return the packet that answers a question with a code and with A records."""
    records = [
        _RECORD.pack(_NAME_OF_QUESTION, Kind.A, _INTERNET, _TTL_S, len(address.packed)) + address.packed
        for address in addresses
    ]
    counts = (1, len(records), 0, 0)
    return _header(question.identity, question.flags, code, counts) + question.raw + b"".join(records)


def _reply(identity: int, flags: int, code: Code) -> bytes:
    return _header(identity, flags, code, (0, 0, 0, 0))


def _header(identity: int, flags: int, code: Code, counts: tuple[int, int, int, int]) -> bytes:
    kept = flags & (_OPCODE | _RECURSION_DESIRED)
    return _HEADER.pack(identity, _IS_ANSWER | kept | _RECURSION_AVAILABLE | code, *counts)


def _read_name(packet: bytes) -> tuple[str, int]:
    """Return the question's name, and where it ends."""
    labels: list[str] = []
    place = _HEADER.size
    while size := packet[place]:
        if size > _MAX_LABEL:
            raise ValueError("a compressed name in the question")
        label = packet[place + 1 : place + 1 + size]
        place += 1 + size
        if len(label) < size or place - _HEADER.size >= _MAX_NAME_BYTES:
            raise ValueError("a name that is cut off or too long")
        # A dot within a label must not pass for one between labels.
        labels.append(label.decode("ascii", "backslashreplace").lower().replace(".", "\\x2e"))
    return ".".join(labels), place + 1
