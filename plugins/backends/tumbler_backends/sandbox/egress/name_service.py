"""Answer the sandbox's DNS questions by its policy, and record them; no question ever leaves this machine."""

import asyncio
import contextlib
import ipaddress
import socket
import struct
from collections.abc import Callable
from typing import Final

from tumbler_backends.sandbox.egress.dns_message import Code, Kind, MalformedQuestion, Question, answer, read_question
from tumbler_backends.sandbox.egress.doors import IP_PKTINFO
from tumbler_backends.sandbox.egress.fake_addresses import FakeAddresses
from tumbler_backends.sandbox.egress.policy import Decision, EgressPolicy

__all__ = ["DatagramDoor", "NameService"]

_MAX_DATAGRAM: Final = 4096
_DATAGRAMS_AT_ONCE: Final = 32
_PACKET_INFO: Final = struct.Struct("=I4s4s")
_PACKET_INFO_IPV6: Final = struct.Struct("=16sI")
_NO_ADDRESSES: Final = (Kind.AAAA, Kind.HTTPS, Kind.SVCB)


class NameService:
    """Turns the bytes of a question into the bytes of an answer."""

    def __init__(
        self,
        addresses: FakeAddresses,
        policy: Callable[[], EgressPolicy],
        record: Callable[[str, str | None, Decision], None],
    ) -> None:
        """Answer from `addresses`; call `record` with the name server's address, the name and the decision."""
        self._addresses = addresses
        self._policy = policy
        self._record = record

    def reply(self, packet: bytes, server: str) -> bytes | None:
        """Answer one message that was sent to `server`; None where there is nothing to say."""
        try:
            question = read_question(packet)
        except MalformedQuestion as error:
            self._record(server, None, Decision(allowed=False, reason=f"malformed DNS message: {error}"))
            return error.reply
        code, addresses, decision = self._decide(question)
        self._record(server, question.name, decision)
        return answer(question, code, addresses)

    def _decide(self, question: Question) -> tuple[Code, tuple[ipaddress.IPv4Address, ...], Decision]:
        decision = self._policy().question(question.name)
        if not decision.allowed:
            return Code.NAME_ERROR, (), decision
        if question.kind == Kind.A:
            return Code.NO_ERROR, (self._addresses.address_of(question.name),), decision
        if question.kind in _NO_ADDRESSES:
            reason = f"{decision.reason}; IPv4 addresses alone stand for names"
            return Code.NO_ERROR, (), Decision(allowed=True, reason=reason)
        reason = f"only addresses are answered, not records of type {question.kind}"
        return Code.REFUSED, (), Decision(allowed=False, reason=reason)


class DatagramDoor:
    """A UDP socket inside, through which a name service answers from the address that was asked."""

    def __init__(self, door: socket.socket, service: NameService) -> None:
        """Answer from now on, in the running event loop."""
        self._door = door
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(door, self._answer)

    def close(self) -> None:
        """Stop answering."""
        self._loop.remove_reader(self._door)
        self._door.close()

    def _answer(self) -> None:
        # A few at a time, so that other sandboxes have their turn.
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                packet, notes, _, sender = self._door.recvmsg(_MAX_DATAGRAM, 256)
            except OSError:  # nothing more, or an ICMP error about an earlier answer
                return
            server, source = _aimed_at(notes)
            reply = self._service.reply(packet, server)
            if reply is not None:
                with contextlib.suppress(OSError):  # whoever asked is gone
                    self._door.sendmsg([reply], [source] if source is not None else [], 0, sender)


def _aimed_at(notes: list[tuple[int, int, bytes]]) -> tuple[str, tuple[int, int, bytes] | None]:
    """Return the address that was asked, and the note that makes an answer come from there."""
    for level, kind, data in notes:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            address = data[8:12]
            note = _PACKET_INFO.pack(0, address, b"\0" * 4)
            return str(ipaddress.IPv4Address(address)), (level, kind, note)
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            note = _PACKET_INFO_IPV6.pack(data[:16], 0)
            return str(ipaddress.IPv6Address(data[:16])), (level, kind, note)
    return "", None
