"""One process's events as output and an end, over as many connections as that takes; starts nothing."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final, Literal

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.process import process_pb
from protobuf import Oneof

from tumbler.contracts.sandbox_process import ProcessExit, Stream
from tumbler.errors import SandboxError
from tumbler_backends.sandbox.e2b.wire import ERRORS, Wire, let_cancellation_pass
from tumbler_backends.sandbox.e2b.wrapper import exit_signal, status_signal
from tumbler_backends.sandbox.posix.marks import Mark, MarkedStream
from tumbler_backends.sandbox.posix.output import OutputRing
from tumbler_backends.sandbox.posix.spawning import SpawnRecord

__all__ = ["Events", "ProcessStream", "selector"]

Events = AsyncGenerator[process_pb.StartResponse, None] | AsyncGenerator[process_pb.ConnectResponse, None]

_ATTEMPTS: Final = 5
_PAUSE_S: Final = 0.2
_HELD_S: Final = 0.05
"""How long a NUL may wait for the rest of a mark: marks are written in one piece."""


class ProcessStream:
    """Follows a process until its end is told by its mark, or by the service."""

    def __init__(self, wire: Wire, pid: int, key: str, record: SpawnRecord, *, terminal: bool) -> None:
        """Follow the process `pid`, whose wrapper writes marks with `key`."""
        self._wire = wire
        self._pid = pid
        self._record = record
        self._marked: dict[Stream, MarkedStream] = {"stdout": MarkedStream(key)}
        if not terminal:
            self._marked["stderr"] = MarkedStream(key)
        self._statuses: dict[Stream, int] = {}
        self._timers: dict[Stream, asyncio.TimerHandle] = {}
        self._ended = False

    async def run(self, events: Events) -> None:
        """Put everything into the record; what goes wrong is put there, too."""
        try:
            with self._wire.life.active():
                await self._follow(events)
        except ERRORS as error:
            self._record.fail(await self._wire.translated(error))
        except (SandboxError, OSError) as error:
            self._record.fail(error)

    async def _follow(self, events: Events) -> None:
        failures = 0
        while True:
            try:
                async with contextlib.aclosing(events):
                    async for event in events:
                        failures = 0
                        self._take(event.event)
                        if self._ended:
                            return
                raise SandboxError(f"the stream of process {self._pid} ended without its end")
            except (*ERRORS, SandboxError) as error:
                let_cancellation_pass(error)
                failures += 1
                await self._may_go_on(error, failures)
            # Output that nobody listened to is lost: E2B keeps none.
            request = process_pb.ConnectRequest(process=selector(self._pid))
            _, events = await self._wire.opened(
                self._wire.processes.connect(request, headers=self._wire.stream_headers)
            )

    async def _may_go_on(self, error: Exception, failures: int) -> None:
        """Return where it is worth to connect again; else raise."""
        life = self._wire.life
        life.require()
        if not life.running.is_set():
            await life.running.wait()
            life.require()
            return
        if isinstance(error, ConnectError) and error.code in {Code.NOT_FOUND, Code.INVALID_ARGUMENT}:
            raise error
        known = await self._wire.translated(error) if isinstance(error, ERRORS) else error
        life.require()
        if failures >= _ATTEMPTS:
            raise known
        await asyncio.sleep(_PAUSE_S * failures)

    def _take(self, event: process_pb.ProcessEvent | None) -> None:
        happened = event.event.value if event is not None and event.event is not None else None
        if isinstance(happened, process_pb.ProcessEvent.EndEvent):
            self._close(happened)
        elif isinstance(happened, process_pb.ProcessEvent.DataEvent) and (output := happened.output) is not None:
            self._feed("stderr" if output.field == "stderr" else "stdout", output.value)

    def _feed(self, stream: Stream, piece: bytes) -> None:
        marked = self._marked.get(stream)
        if marked is None or stream in self._statuses:
            return  # of a child that outlives the command
        if (timer := self._timers.pop(stream, None)) is not None:
            timer.cancel()
        for part in marked.feed(piece):
            if isinstance(part, Mark):
                self._statuses[stream] = int(part.word)
                break
            self._ring(stream).feed(part)
        else:
            self._timers[stream] = asyncio.get_running_loop().call_later(_HELD_S, self._release, stream)
        if len(self._statuses) == len(self._marked):
            self._finish(status := self._statuses["stdout"], exit_signal(status))

    def _close(self, end: process_pb.ProcessEvent.EndEvent) -> None:
        for stream, marked in self._marked.items():
            if stream not in self._statuses and (rest := marked.rest()):
                self._ring(stream).feed(rest)
        number = status_signal(end.status)
        if number is not None:
            self._finish(128 + number, number)
        else:
            status = next(iter(self._statuses.values()), end.exit_code)
            self._finish(status, exit_signal(status))

    def _release(self, stream: Stream) -> None:
        """Tell what was held back: it is output after all."""
        if not self._record.ended and (rest := self._marked[stream].rest()):
            self._ring(stream).feed(rest)

    def _finish(self, exit_code: int, number: int | None) -> None:
        self._ended = True
        self._record.finish(ProcessExit(exit_code=exit_code, signal=number))

    def _ring(self, stream: Stream) -> OutputRing:
        return self._record.stdout if stream == "stdout" else self._record.stderr


def selector(pid: int) -> process_pb.ProcessSelector:
    """Return the words for one process."""
    return process_pb.ProcessSelector(selector=Oneof[Literal["pid"], int]("pid", pid))
