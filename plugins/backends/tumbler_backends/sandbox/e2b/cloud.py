"""Start processes through E2B, for everything in `tumbler_backends.sandbox.posix`; knows no files."""

import asyncio
import errno
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.process import process_pb
from e2b.envd.utils import extract_start_pid
from protobuf import Oneof

from tumbler.contracts.sandbox_process import TerminalSize
from tumbler_backends.sandbox.e2b.stream import Events, ProcessStream, selector
from tumbler_backends.sandbox.e2b.wire import Wire
from tumbler_backends.sandbox.e2b.wrapper import key_of, sent_to_agent, wrapped
from tumbler_backends.sandbox.posix.launched import LaunchRecord
from tumbler_backends.sandbox.posix.spawning import SpawnRecord
from tumbler_backends.sandbox.posix.tree import TREE_VARIABLE

__all__ = ["E2bCloud", "E2bProcess", "TerminalRecord"]

_PIECE: Final = 1 << 18
_LONGEST_WORD: Final = (1 << 17) - 1
"""Linux starts no program with a longer argument."""


class TerminalRecord(LaunchRecord):
    """A record of a process that is to have a terminal."""

    def __init__(
        self, exec_id: str, command: Sequence[str], *, size: TerminalSize, max_output: int, tag: str | None
    ) -> None:
        """Ask for a terminal of this size."""
        super().__init__(exec_id, command, max_output=max_output, tag=tag)
        self.size = size


class E2bProcess:
    """One process as E2B knows it; keeps `tumbler_backends.sandbox.posix.cloud.CloudProcess`."""

    def __init__(self, wire: Wire, pid: int, task: "asyncio.Task[None]", *, terminal: bool) -> None:
        """Take over a process whose stream `task` reads."""
        self._wire = wire
        self._pid = pid
        self._task = task
        self._terminal = terminal
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Return E2B's number of the process."""
        return self._pid

    async def write(self, data: bytes) -> None:
        """Send bytes to stdin, in the order of the calls."""
        async with self._turn:
            for start in range(0, len(data), _PIECE):
                piece = data[start : start + _PIECE]
                await self._sent(_input(piece, terminal=self._terminal))

    async def close_stdin(self) -> None:
        """End stdin; at a terminal that is the key Ctrl-D."""
        if self._terminal:
            await self.write(b"\x04")
            return
        async with self._turn, self._wire.calling():
            try:
                await self._wire.processes.close_stdin(
                    process_pb.CloseStdinRequest(process=selector(self._pid)), timeout_ms=self._wire.milliseconds
                )
            except ConnectError as error:
                if error.code is not Code.NOT_FOUND:  # it has ended
                    raise

    async def resize(self, size: TerminalSize) -> None:
        """Set the size of its terminal."""
        request = process_pb.UpdateRequest(process=selector(self._pid), pty=_terminal(size))
        async with self._wire.calling():
            await self._wire.processes.update(request, timeout_ms=self._wire.milliseconds)

    async def abandon(self) -> None:
        """Stop reading what it says."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _sent(self, given: process_pb.ProcessInput) -> None:
        request = process_pb.SendInputRequest(process=selector(self._pid), input=given)
        async with self._wire.calling():
            try:
                await self._wire.processes.send_input(
                    request, headers=self._wire.headers, timeout_ms=self._wire.milliseconds
                )
            except ConnectError as error:
                if error.code in {Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.INTERNAL}:
                    raise BrokenPipeError(f"process {self._pid} reads no input: {error.message}") from error
                raise


class E2bCloud:
    """One sandbox; keeps `tumbler_backends.sandbox.posix.cloud.Cloud`."""

    def __init__(self, wire: Wire, workdir: str, *, shared: bool) -> None:
        """Start processes that see each other, if `shared`, or each in namespaces of its own."""
        self._wire = wire
        self._workdir = workdir
        self._shared = shared

    @property
    def workdir(self) -> str:
        """Return the absolute working directory."""
        return self._workdir

    def require(self) -> None:
        """Raise `SandboxDied` once the sandbox is known to be gone."""
        self._wire.life.require()

    async def start(
        self, words: Sequence[str], *, env: Mapping[str, str], stdin: bool, record: SpawnRecord
    ) -> E2bProcess:
        """Start a program in the working directory."""
        size = record.size if isinstance(record, TerminalRecord) else None
        key, tree = secrets.token_hex(16), env.get(TREE_VARIABLE, "")
        meant = "" if self._shared else _tree_of(words)
        if meant:
            words = sent_to_agent(meant, words)
        _require_startable(words)
        request = process_pb.StartRequest(
            process=process_pb.ProcessConfig(
                cmd="/bin/sh",
                args=wrapped(words, key=key, tree=tree, agent=not (self._shared or meant)),
                envs={name: value for name, value in env.items() if name != TREE_VARIABLE},
                cwd=self._workdir,
            ),
            pty=_terminal(size) if size is not None else None,
            tag=record.exec_id,
            stdin=stdin,
        )
        async with self._wire.calling():
            event, events = await self._wire.opened(
                self._wire.processes.start(request, headers=self._wire.stream_headers)
            )
        return self._followed(extract_start_pid(event, "start a process"), events, key, record, size is not None)

    async def found(self, exec_id: str) -> tuple[process_pb.ProcessInfo, str, str] | None:
        """Return a running process that was started under this id by whomever, its key and its tree."""
        async with self._wire.calling():
            answer = await self._wire.processes.list(process_pb.ListRequest(), timeout_ms=self._wire.milliseconds)
        for info in answer.processes:
            known = key_of(info.config.args) if info.config is not None and info.tag == exec_id else None
            if known is not None:
                return info, *known
        return None

    async def connect(self, pid: int, key: str, record: SpawnRecord) -> E2bProcess:
        """Follow a process that runs already, from now on."""
        async with self._wire.calling():
            request = process_pb.ConnectRequest(process=selector(pid))
            _, events = await self._wire.opened(
                self._wire.processes.connect(request, headers=self._wire.stream_headers)
            )
        return self._followed(pid, events, key, record, terminal=False)

    def _followed(self, pid: int, events: Events, key: str, record: SpawnRecord, terminal: bool) -> E2bProcess:
        stream = ProcessStream(self._wire, pid, key, record, terminal=terminal)
        task = asyncio.get_running_loop().create_task(stream.run(events))
        return E2bProcess(self._wire, pid, task, terminal=terminal)


def _tree_of(words: Sequence[str]) -> str:
    """Return the tree that a command of `tumbler_backends.sandbox.posix.tree` is about; empty for other commands."""
    marker = f"{TREE_VARIABLE}="
    return next((word.removeprefix(marker) for word in words if word.startswith(marker)), "")


def _require_startable(words: Sequence[str]) -> None:
    if any(len(word.encode(errors="surrogateescape")) >= _LONGEST_WORD for word in words):
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))


def _terminal(size: TerminalSize) -> process_pb.PTY:
    return process_pb.PTY(size=process_pb.PTY.Size(cols=size.columns, rows=size.rows))


def _input(piece: bytes, *, terminal: bool) -> process_pb.ProcessInput:
    if terminal:
        return process_pb.ProcessInput(input=Oneof[Literal["pty"], bytes]("pty", piece))
    return process_pb.ProcessInput(input=Oneof[Literal["stdin"], bytes]("stdin", piece))
