"""The processes of one sandbox as E2B's clients know them: by a number of ours, or by a tag; knows no HTTP."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tumbler.contracts.sandbox_control import CompleteSandbox
from tumbler.contracts.sandbox_process import Process, Stream, TerminalSize
from tumbler_backends.sandbox.service.e2b.faults import RpcError
from tumbler_backends.sandbox.service.e2b.framing import Json
from tumbler_backends.sandbox.service.e2b.messages import mapping, number, text, texts

__all__ = ["ProcessTable", "StartedProcess"]

_PREFIX: Final = "e2b-"
_FIRST_PID: Final = 1000
_SKIPPED_BYTES: Final = 1 << 20


@dataclass(kw_only=True)
class StartedProcess:
    """One process, and how much of its output has been told so far."""

    pid: int
    process: Process
    config: Json
    """As the client sent it."""
    tag: str | None = None
    terminal: bool = False
    offsets: dict[Stream, int] = field(default_factory=lambda: {"stdout": 0, "stderr": 0})

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Return the streams that it has."""
        return ("stdout",) if self.terminal else ("stdout", "stderr")

    async def skip_to_now(self) -> None:
        """Forget the output that nobody listened to: a client that connects is told what comes from now on."""
        for stream in self.streams:
            while True:
                piece = await self.process.read(stream, offset=self.offsets[stream], limit=_SKIPPED_BYTES, timeout=0)
                self.offsets[stream] = piece.offset + len(piece.data)
                if piece.end or not piece.data:
                    break


class ProcessTable:
    """Numbers, which the backends do not all have, and what the backend does not keep."""

    def __init__(self) -> None:
        """Know no process."""
        self._started: dict[int, StartedProcess] = {}
        self._next: int | None = None

    async def start(
        self, sandbox: CompleteSandbox, request: Mapping[str, object], timeout: float | None
    ) -> StartedProcess:
        """Start what a StartRequest asks for; the deadline is the process's, whoever is connected."""
        config = mapping(request, "process")
        command = [text(config, "cmd"), *texts(config, "args")]
        if not command[0]:
            raise RpcError("invalid_argument", "process.cmd is empty")
        terminal = mapping(request, "pty")
        pid = await self._number(sandbox)
        tag = text(request, "tag") or None
        cwd = text(config, "cwd") or None
        try:
            process = await sandbox.spawn(
                command,
                exec_id=f"{_PREFIX}{pid}",
                stdin=bool(request.get("stdin", True)),
                pty=size_of(terminal) if terminal else None,
                cwd=cwd,
                env={name: str(value) for name, value in mapping(config, "envs").items()},
                timeout=timeout,
                tag=tag,
            )
        except FileNotFoundError as error:
            raise RpcError("invalid_argument", f"cwd {cwd!r} does not exist") from error
        started = StartedProcess(pid=pid, process=process, config=config, tag=tag, terminal=bool(terminal))
        self._started[pid] = started
        return started

    async def find(self, sandbox: CompleteSandbox, selector: Mapping[str, object]) -> StartedProcess:
        """Return the process that a ProcessSelector means, running or just ended; raise `not_found`."""
        tag = text(selector, "tag")
        if tag:
            pids = [pid for pid, started in self._started.items() if started.tag == tag]
            pid = pids[-1] if pids else -1
        else:
            pid = number(selector, "pid")
        if pid not in self._started:
            with contextlib.suppress(ProcessLookupError):  # started before this server was
                process = await sandbox.process(f"{_PREFIX}{pid}")
                self._started[pid] = StartedProcess(pid=pid, process=process, config={})
        try:
            return self._started[pid]
        except KeyError:
            raise RpcError(
                "not_found", f"process with {'tag ' + repr(tag) if tag else f'pid {pid}'} not found"
            ) from None

    async def running(self, sandbox: CompleteSandbox, selector: Mapping[str, object]) -> StartedProcess:
        """Return the process that a ProcessSelector means; raise `not_found` also for one that has ended."""
        started = await self.find(sandbox, selector)
        if await started.process.poll() is not None:
            raise RpcError("not_found", f"process with pid {started.pid} not found: it has ended")
        return started

    async def listed(self, sandbox: CompleteSandbox) -> list[Json]:
        """Return the running processes."""
        found: list[Json] = []
        for info in await sandbox.processes():
            pid = _pid_of(info.exec_id)
            if pid is None or info.exit is not None:
                continue
            known = self._started.get(pid)
            config = known.config if known and known.config else _config_of(info.command)
            found.append({"pid": pid, "config": config, **({"tag": info.tag} if info.tag else {})})
        return found

    async def _number(self, sandbox: CompleteSandbox) -> int:
        if self._next is None:
            before = [_pid_of(info.exec_id) or 0 for info in await sandbox.processes()]
            self._next = max([_FIRST_PID - 1, *before]) + 1
        self._next += 1
        return self._next - 1


def size_of(pty: Mapping[str, object]) -> TerminalSize:
    """Return the size that a PTY message names."""
    size = mapping(pty, "size")
    return TerminalSize(columns=number(size, "cols") or 80, rows=number(size, "rows") or 24)


def _pid_of(exec_id: str) -> int | None:
    digits = exec_id.removeprefix(_PREFIX)
    return int(digits) if exec_id.startswith(_PREFIX) and digits.isdecimal() else None


def _config_of(command: tuple[str, ...]) -> Json:
    return {"cmd": command[0] if command else "", "args": list(command[1:])}
