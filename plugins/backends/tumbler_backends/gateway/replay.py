"""Sessions that are answered from recorded calls; knows no API and no model."""

import difflib
import json
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from tumbler.contracts.chat import ChatReply, OnText
from tumbler.contracts.values import JSONObject
from tumbler.errors import RunFolderError
from tumbler_backends.gateway.answering import Answerer, Call
from tumbler_backends.gateway.failures import FINAL, Refused
from tumbler_backends.gateway.fingerprints import digest
from tumbler_backends.gateway.journal import Line
from tumbler_backends.gateway.wire.format import GatewayRequest

__all__ = ["Recording", "Replay"]

_SHOWN: Final = 60
"""Lines of a difference that a message shows."""


class Recording:
    """A file of calls, to answer sessions from: each from the recorded one of its name, else from the next."""

    def __init__(self, path: Path) -> None:
        """Read the file; raises `RunFolderError` where it cannot be."""
        self._path = path
        lines = sorted(_lines(path), key=lambda line: (line.session, line.number))
        self._sessions = {name: tuple(group) for name, group in groupby(lines, key=lambda line: line.session)}

    def take(self, session: str) -> Sequence[Line]:
        """Return the calls of a session, which no other session gets."""
        if not self._sessions:
            raise RunFolderError(f"{self._path} holds no more sessions, and {session!r} is to be answered from it")
        name = session if session in self._sessions else next(iter(self._sessions))
        return self._sessions.pop(name)


class Replay:
    """Answers a session from recorded calls: each request from the first one that is left and was the same.

    So agents that run side by side may come in another order than they did. A call keeps its recorded number, and with
    it the ids in its answer, which later requests repeat.
    """

    def __init__(self, lines: Sequence[Line], counting: Answerer) -> None:
        """Answer with `lines`; tokens are counted by `counting`."""
        self._lines = {line.number: line for line in lines}
        self._left: defaultdict[bytes, deque[int]] = defaultdict(deque)
        for line in lines:
            self._left[_digest(line.api, line.body)].append(line.number)
        self._counting = counting

    def number(self, api: str, body: JSONObject) -> int:
        """Return which recorded call a request is, and take it; raise `Refused` where none is left that is the same."""
        same = self._left[_digest(api, body)]
        if same:
            return same.popleft()
        left = sorted(number for numbers in self._left.values() for number in numbers)
        raise Refused(400, "invalid_request_error", self._unlike(left, api, body), headers=FINAL)

    async def answer(self, call: Call, on_text: OnText) -> ChatReply:
        """Return the recorded reply."""
        line = self._lines[call.number]
        if line.error is not None:
            raise Refused(line.status, line.error.kind, line.error.message, parameter=line.error.parameter)
        assert line.reply is not None
        return line.reply.reply()

    @property
    def context_length(self) -> int:
        """Return that of the session's own model."""
        return self._counting.context_length

    async def count(self, request: GatewayRequest) -> int:
        """Return what the session's own model would count."""
        return await self._counting.count(request)

    def _unlike(self, left: Sequence[int], api: str, body: JSONObject) -> str:
        """Return how a request differs from the first recorded one that was not sent yet."""
        if not left:
            return f"the record ends after {len(self._lines)} calls, and this is one more"
        line = self._lines[left[0]]
        recorded, sent = _pretty(line.api, line.body), _pretty(api, body)
        difference = list(difflib.unified_diff(recorded, sent, "recorded", "sent", lineterm="", n=2))
        shown = "\n".join(difference[:_SHOWN]) + ("\n…" if len(difference) > _SHOWN else "")
        return f"no recorded call that is left is the same; from call {line.number} it differs so:\n{shown}"


def _digest(api: str, body: Mapping[str, object]) -> bytes:
    return digest(json.dumps([api, body], sort_keys=True).encode())


def _pretty(api: str, body: Mapping[str, object]) -> list[str]:
    return json.dumps({"api": api, **body}, indent=1, sort_keys=True, ensure_ascii=False).splitlines()


def _lines(path: Path) -> list[Line]:
    try:
        # What follows the last line break was not written whole when somebody was killed.
        *texts, _ = path.read_text(encoding="utf-8").split("\n")
        return [Line.model_validate_json(text) for text in texts if text]
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise RunFolderError(f"the calls recorded in {path} cannot be read: {error}") from error
