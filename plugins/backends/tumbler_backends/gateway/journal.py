"""Calls in a file, one JSON object a line, and sessions that are answered from such a file; knows no API."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Final, TypeAlias, cast

from pydantic import ValidationError

from tumbler.config import Settings
from tumbler.contracts.chat import ChatCall, ChatMessage, ChatReply, OnText, Sampled, StopReason, Usage
from tumbler.contracts.values import JSONObject
from tumbler.errors import RunFolderError
from tumbler_backends.gateway.answering import Answerer, Call
from tumbler_backends.gateway.failures import FINAL, Refused
from tumbler_backends.gateway.wire.format import GatewayRequest

__all__ = ["Journal", "Line", "Recording", "Replay"]

_Object: TypeAlias = dict[str, object]
_SHOWN: Final = 60
"""Lines of a difference that a message shows."""


class _Call(Settings):
    id: str
    name: str
    arguments: _Object
    problem: str | None = None


class _Sampled(Settings):
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    pieces: tuple[str, ...]


class _Reply(Settings):
    """A reply as it stands in the file."""

    content: str = ""
    thinking: str = ""
    calls: tuple[_Call, ...] = ()
    stop: StopReason
    text: str
    """The words as sampled."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    chunk: int | None = None
    sampled: _Sampled | None = None

    @classmethod
    def of(cls, reply: ChatReply) -> "_Reply":
        """Return the form that a reply has in the file."""
        calls = [
            _Call(id=call.id, name=call.name, arguments=dict(call.arguments), problem=call.problem)
            for call in reply.message.calls
        ]
        return cls(
            content=reply.message.content,
            thinking=reply.message.thinking,
            calls=tuple(calls),
            stop=reply.stop,
            text=reply.text,
            prompt_tokens=reply.usage.prompt,
            completion_tokens=reply.usage.completion,
            cached_tokens=reply.usage.cached,
            chunk=reply.chunk,
            sampled=None if reply.sampled is None else _Sampled(**asdict(reply.sampled)),
        )

    def reply(self) -> ChatReply:
        """Return the reply."""
        calls = tuple(
            ChatCall(id=call.id, name=call.name, arguments=cast("JSONObject", call.arguments), problem=call.problem)
            for call in self.calls
        )
        message = ChatMessage(role="assistant", content=self.content, thinking=self.thinking, calls=calls)
        usage = Usage(prompt=self.prompt_tokens, completion=self.completion_tokens, cached=self.cached_tokens)
        sampled = None if self.sampled is None else Sampled(**dict(self.sampled))
        return ChatReply(
            message=message, stop=self.stop, text=self.text, usage=usage, chunk=self.chunk, sampled=sampled
        )


class _Error(Settings):
    kind: str
    message: str
    parameter: str | None = None


class Line(Settings):
    """One call: what was asked, and what was answered."""

    session: str
    number: int
    api: str
    body: _Object
    status: int
    reply: _Reply | None = None
    error: _Error | None = None


class Journal:
    """Appends calls to a file. Each line is written at once and whole."""

    def __init__(self, path: Path) -> None:
        """Write to `path`; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def write(self, session: str, call: Call, outcome: ChatReply | Refused) -> None:
        """Append one call."""
        refused = outcome if isinstance(outcome, Refused) else None
        line = Line(
            session=session,
            number=call.number,
            api=call.api,
            body=dict(call.body),
            status=200 if refused is None else refused.status,
            reply=None if isinstance(outcome, Refused) else _Reply.of(outcome),
            error=None
            if refused is None
            else _Error(kind=refused.kind, message=refused.message, parameter=refused.parameter),
        )
        self._file.write(line.model_dump_json(exclude_defaults=True) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


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
    """Answers a session from recorded calls, in order."""

    def __init__(self, lines: Sequence[Line], counting: Answerer) -> None:
        """Answer with `lines`; tokens are counted by `counting`."""
        self._lines = lines
        self._next = 0
        self._counting = counting

    async def answer(self, call: Call, on_text: OnText) -> ChatReply:
        """Return the recorded reply to a request that is the recorded one."""
        if self._next >= len(self._lines):
            message = f"the record ends after {len(self._lines)} calls, and this is one more"
            raise Refused(400, "invalid_request_error", message, headers=FINAL)
        line = self._lines[self._next]
        _require_same(line, call, self._next)
        self._next += 1
        if line.error is not None:
            raise Refused(line.status, line.error.kind, line.error.message, parameter=line.error.parameter)
        assert line.reply is not None
        return line.reply.reply()

    async def count(self, request: GatewayRequest) -> int:
        """Return what the session's own model would count."""
        return await self._counting.count(request)


def _require_same(line: Line, call: Call, place: int) -> None:
    if line.api == call.api and line.body == call.body:
        return
    recorded, sent = _pretty(line.api, line.body), _pretty(call.api, call.body)
    difference = list(difflib.unified_diff(recorded, sent, "recorded", "sent", lineterm="", n=2))
    shown = "\n".join(difference[:_SHOWN]) + ("\n…" if len(difference) > _SHOWN else "")
    message = f"call {place} differs from the recorded one:\n{shown}"
    raise Refused(400, "invalid_request_error", message, headers=FINAL)


def _pretty(api: str, body: Mapping[str, object]) -> list[str]:
    return json.dumps({"api": api, **body}, indent=1, sort_keys=True, ensure_ascii=False).splitlines()


def _lines(path: Path) -> list[Line]:
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
        return [Line.model_validate_json(text) for text in texts if text]
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise RunFolderError(f"the calls recorded in {path} cannot be read: {error}") from error
