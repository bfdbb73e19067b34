"""Lasting Python interpreters inside a sandbox, for the code-interpreter add-on; knows no HTTP."""

import asyncio
import json
import secrets
import signal
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox_control import CompleteSandbox
from tumbler.contracts.sandbox_process import Process
from tumbler_backends.sandbox.service.e2b.faults import RefusedError
from tumbler_backends.sandbox.service.e2b.framing import Json

__all__ = ["Context", "ContextTable"]

_RUNNER: Final = Path(__file__).with_name("runner.py")
_PIECE_BYTES: Final = 1 << 16
_WAIT_S: Final = 60.0
_LANGUAGES: Final = frozenset({"python", "python3"})
_MISSING: Final = 127


@dataclass(kw_only=True)
class Context:
    """One interpreter, and how much of what it says was read."""

    id: str
    cwd: str
    process: Process
    offset: int = 0
    unread: bytes = b""
    """What came after the last event that was told."""
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    def described(self) -> Json:
        """Return what clients see."""
        return {"id": self.id, "language": "python", "cwd": self.cwd}

    async def next_event(self) -> Json | None:
        """Wait for the interpreter's next event; None once it has ended."""
        while b"\n" not in self.unread:
            piece = await self.process.read(offset=self.offset, limit=_PIECE_BYTES, timeout=_WAIT_S)
            self.offset = piece.offset + len(piece.data)
            self.unread += piece.data
            if piece.end and b"\n" not in self.unread:
                return None
        line, _, self.unread = self.unread.partition(b"\n")
        event = json.loads(line)
        return event if isinstance(event, dict) else None


class ContextTable:
    """The interpreters of one sandbox; each starts when it is asked for first."""

    def __init__(self) -> None:
        """Have none."""
        self._contexts: dict[str, Context] = {}
        self._default: str | None = None
        self._starting = asyncio.Lock()

    def listed(self) -> list[Json]:
        """Return all."""
        return [context.described() for context in self._contexts.values()]

    async def create(self, sandbox: CompleteSandbox, *, language: str, cwd: str | None) -> Context:
        """Start an interpreter."""
        if language.lower() not in _LANGUAGES:
            raise RefusedError(400, f"language {language!r} is not offered, only python")
        process = await _start(sandbox, cwd)
        context = Context(id=secrets.token_hex(8), cwd=cwd or sandbox.spec.workdir, process=process)
        self._contexts[context.id] = context
        return context

    async def chosen(self, sandbox: CompleteSandbox, identity: str, language: str) -> Context:
        """Return the context that a client names, or the one for those who name none."""
        if identity:
            return self.find(identity)
        async with self._starting:
            context = self._contexts.get(self._default or "")
            if context is None:
                context = await self.create(sandbox, language=language or "python", cwd=None)
                self._default = context.id
            return context

    def find(self, identity: str) -> Context:
        """Return a context."""
        if identity not in self._contexts:
            raise RefusedError(404, f"context {identity!r} not found")
        return self._contexts[identity]

    async def remove(self, identity: str) -> Context:
        """End a context and return what it was."""
        context = self.find(identity)
        del self._contexts[identity]
        await context.process.kill()
        return context

    async def restart(self, sandbox: CompleteSandbox, identity: str) -> None:
        """Give a context a new interpreter."""
        old = await self.remove(identity)
        process = await _start(sandbox, old.cwd)
        self._contexts[identity] = Context(id=identity, cwd=old.cwd, process=process)

    async def execute(self, context: Context, code: str, environment: Mapping[str, str]) -> AsyncGenerator[Json, None]:
        """Run a cell and yield its events; a caller that stops listening interrupts it."""
        identity = secrets.token_hex(8)
        request = {"id": identity, "code": code, "env_vars": dict(environment)}
        async with context.busy:
            ended = False
            try:
                await context.process.write_stdin(json.dumps(request).encode() + b"\n")
                while not ended:
                    # An interrupted cell's last events come late: they are nobody's.
                    event = await context.next_event()
                    if event is None:
                        break
                    if event.pop("id") == identity:
                        ended = event["type"] == "end_of_execution"
                        yield event
            except BrokenPipeError:
                pass  # told below
            finally:
                if not ended:
                    await context.process.signal(signal.SIGINT)
        if not ended:
            await self._refuse_dead(context)

    async def _refuse_dead(self, context: Context) -> None:
        self._contexts.pop(context.id, None)
        how = await context.process.wait()
        if how.exit_code == _MISSING:
            raise RefusedError(400, "the sandbox has no python3, which code contexts need")
        raise RefusedError(500, f"the context's Python ended with exit code {how.exit_code}; the next call starts anew")


async def _start(sandbox: CompleteSandbox, cwd: str | None) -> Process:
    try:
        return await sandbox.spawn(["python3", "-u", "-c", _RUNNER.read_text()], stdin=True, cwd=cwd)
    except FileNotFoundError:
        raise RefusedError(400, f"cwd {cwd!r} does not exist") from None
