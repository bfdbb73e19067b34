"""A sandbox of the service, as callers hold it."""

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from pydantic import TypeAdapter

from tumbler.contracts.sandbox import ExecResult, IsolationTier, SandboxSpec
from tumbler.contracts.sandbox_process import ProcessInfo, TerminalSize
from tumbler.errors import ExecFailed, ExecTimeout, SandboxDied, SandboxError
from tumbler_backends.sandbox.remote.control import RemoteControl
from tumbler_backends.sandbox.remote.counts import Counts
from tumbler_backends.sandbox.remote.files import RemoteFiles
from tumbler_backends.sandbox.remote.process import RemoteProcess
from tumbler_backends.sandbox.remote.runs import run
from tumbler_backends.sandbox.remote.scope import Scope
from tumbler_backends.sandbox.remote.session import RemoteSession
from tumbler_backends.sandbox.wire.answers import InfoAnswer, ProcessAnswer
from tumbler_backends.sandbox.wire.fields import Answer
from tumbler_backends.sandbox.wire.requests import CountBody, ExecBody, SizeBody, SpawnBody

__all__ = ["RemoteSandbox"]

_DELETE_S: Final = 60.0
_ALIVE_S: Final = 30.0
_SPAWN_S: Final = 60.0
_COPY_S: Final = 600.0
_SHOWN_BYTES: Final = 2000
_PROCESSES: Final = TypeAdapter(tuple[ProcessAnswer, ...])
_INFOS: Final = TypeAdapter(tuple[InfoAnswer, ...])


class _Alive(Answer):
    alive: bool


class RemoteSandbox(RemoteFiles, RemoteControl):
    """One sandbox; see `tumbler.contracts.sandbox_control.CompleteSandbox` for what each method promises.

    "The link died" is `SandboxUnavailable`: the sandbox lives on and later calls may succeed. "The sandbox died" is
    `SandboxDied`.
    """

    def __init__(self, scope: Callable[[str], Scope], info: InfoAnswer, spec: SandboxSpec, counts: Counts) -> None:
        """Speak of the sandbox that `info` describes."""
        self._make_scope = scope
        self._scope = scope(info.id)
        self._info = info
        self._spec = spec
        self._counts = counts
        self._deletion: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        """Return the sandbox's unique id."""
        return self._info.id

    @property
    def tier(self) -> IsolationTier:
        """Return the isolation actually obtained."""
        return self._info.tier

    @property
    def spec(self) -> SandboxSpec:
        """Return what it was made from."""
        return self._spec

    async def exec(
        self,
        command: str | Sequence[str],
        *,
        input: bytes | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        max_output: int = 10 << 20,
        check: bool = False,
    ) -> ExecResult:
        """Run one command and wait for it; it is killed when the wait is cancelled."""
        body = ExecBody(
            command=_words(command),
            exec_id=uuid.uuid4().hex,
            input=input,
            cwd=cwd,
            env=None if env is None else dict(env),
            timeout=timeout,
            max_output=max_output,
        )
        self._counts.commands += 1
        result = await run(self._scope, "/exec", body)
        if check and result.timed_out:
            raise ExecTimeout(f"{command!r} ran past {timeout:g} s; {_shown(result)}", result)
        if check and result.exit_code != 0:
            raise ExecFailed(f"{command!r} exited with {result.exit_code}; {_shown(result)}")
        return result

    async def session(self) -> RemoteSession:
        """Open a shell session."""
        return await RemoteSession.open(self._scope)

    async def spawn(
        self,
        command: str | Sequence[str],
        *,
        exec_id: str | None = None,
        stdin: bool = False,
        pty: TerminalSize | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        max_output: int = 8 << 20,
        tag: str | None = None,
    ) -> RemoteProcess:
        """Start a process and return at once."""
        body = SpawnBody(
            command=_words(command),
            exec_id=exec_id or uuid.uuid4().hex,
            stdin=stdin,
            pty=None if pty is None else SizeBody(columns=pty.columns, rows=pty.rows),
            cwd=cwd,
            env=None if env is None else dict(env),
            timeout=timeout,
            max_output=max_output,
            tag=tag,
        )
        self._counts.commands += 1
        response = await self._scope.ask("POST", "/processes", body=body, seconds=_SPAWN_S, repeat=True)
        return self._process(ProcessAnswer.model_validate_json(response.content))

    async def process(self, exec_id: str) -> RemoteProcess:
        """Return a process spawned before, running or ended."""
        response = await self._scope.below("processes", exec_id).ask("GET", "", repeat=True)
        return self._process(ProcessAnswer.model_validate_json(response.content))

    async def processes(self) -> Sequence[ProcessInfo]:
        """Return the spawned processes, oldest first."""
        response = await self._scope.ask("GET", "/processes", repeat=True)
        return [each.value() for each in _PROCESSES.validate_json(response.content)]

    async def fork(self, count: int = 1) -> Sequence["RemoteSandbox"]:
        """Create sandboxes of the same spec with the same files."""
        began = time.perf_counter()
        response = await self._scope.ask("POST", "/fork", body=CountBody(count=count), seconds=_COPY_S)
        copies = _INFOS.validate_json(response.content)
        for copy in copies:
            self._counts.created(copy.id, time.perf_counter() - began)
        spec = replace(self._spec, name=None, idempotency_key=None)
        return [RemoteSandbox(self._make_scope, copy, spec, self._counts) for copy in copies]

    async def alive(self) -> bool:
        """Tell whether the sandbox really executes a command now."""
        try:
            response = await self._scope.ask("GET", "/alive", seconds=_ALIVE_S, repeat=True)
        except SandboxError:
            return False
        return _Alive.model_validate_json(response.content).alive

    async def delete(self) -> None:
        """Kill all processes and remove every trace; goes on when its caller is cancelled."""
        if self._deletion is None or (self._deletion.done() and _failed(self._deletion)):
            self._deletion = asyncio.get_running_loop().create_task(self._delete())
        await asyncio.shield(self._deletion)

    async def _delete(self) -> None:
        with contextlib.suppress(SandboxDied):  # by its ttl, or by somebody else
            await self._scope.ask("DELETE", "", seconds=_DELETE_S, repeat=True)
        self._counts.deleted(self.id)

    def _process(self, answer: ProcessAnswer) -> RemoteProcess:
        return RemoteProcess(self._scope, answer.exec_id, answer.pid)


def _words(command: str | Sequence[str]) -> str | tuple[str, ...]:
    return command if isinstance(command, str) else tuple(command)


def _failed(task: "asyncio.Task[None]") -> bool:
    return task.cancelled() or task.exception() is not None


def _shown(result: ExecResult) -> str:
    stdout, stderr = (os.fsdecode(stream[-_SHOWN_BYTES:]) for stream in (result.stdout, result.stderr))
    return f"stdout ends {stdout!r}, stderr ends {stderr!r}"
