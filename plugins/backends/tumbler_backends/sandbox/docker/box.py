"""One container of this machine as the contract's parts see it: alive or why not, and a place for commands."""

import asyncio
import itertools
import posixpath
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.contracts.sandbox_control import SandboxUsage
from tumbler.contracts.sandbox_process import TerminalSize
from tumbler.errors import SandboxStartFailed
from tumbler_backends.sandbox.docker.capturing import PipeReader
from tumbler_backends.sandbox.docker.launching import Ending
from tumbler_backends.sandbox.docker.life import Life
from tumbler_backends.sandbox.docker.place import Order, Place, Started
from tumbler_backends.sandbox.docker.settings import DockerSettings

__all__ = ["Box"]

_DEATH_S: Final = 5.0
_KILLED: Final = 137


class Box(Life):
    """The state that the parts of a sandbox on this machine share."""

    def __init__(
        self, identity: str, spec: SandboxSpec, place: Place, environment: Mapping[str, str], settings: DockerSettings
    ) -> None:
        """Take over a running container; `environment` is that of its image and spec."""
        super().__init__(identity, spec, settings, place.gone)
        self.place = place
        self._environment = dict(environment)
        self._numbers = itertools.count(1)
        self._left: set[PipeReader] = set()
        self._running: set[Started] = set()
        self._oom_kills = place.oom_kills()

    @property
    def busy(self) -> bool:
        """Tell whether a command runs."""
        return bool(self._running)

    async def usage(self) -> SandboxUsage:
        """Measure what the container uses."""
        return await self.place.usage()

    def path(self, path: str | None) -> str:
        """Return the absolute path of one that may be relative to the working directory."""
        return posixpath.join(self.workdir, path or ".").removesuffix("/.") or "/"

    def number(self) -> int:
        """Return a number for a session command's pipes."""
        return next(self._numbers)

    async def start(
        self,
        words: Sequence[str],
        streams: Sequence[int],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        terminal: TerminalSize | None = None,
    ) -> Started:
        """Start a command."""
        self.require()
        environment = {**self._environment, **(env or {})}
        _require_environment(environment)
        order = Order(words=words, cwd=self.path(cwd), env=environment, terminal=terminal)
        starting = asyncio.ensure_future(self.place.start(order, streams))
        try:
            started = await self.guarded(asyncio.shield(starting))
        except (OSError, SandboxStartFailed):
            if self.place.dying():  # that is why
                await self._raise_death()
            raise
        except BaseException:
            starting.add_done_callback(_kill_late)
            raise
        self._running.add(started)
        started.ended.add_done_callback(lambda _: self._forget(started))
        return started

    async def ended(self, started: Started, timeout: float | None) -> Ending | None:
        """Wait for a command's end; None when `timeout` seconds pass. Raises why the sandbox is gone, if it is."""
        await asyncio.wait((started.ended, self._trouble), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if started.ended.done() and not started.ended.exception():
            ending = started.ended.result()
            if ending.code != _KILLED or not self.place.dying():
                return ending
            # All processes die before the container does: the command was not killed alone.
            await self._raise_death()
        if self._trouble.done():
            raise self._again(self._trouble.result())
        return started.ended.result() if started.ended.done() else None

    async def _raise_death(self) -> None:
        """Wait for somebody to say why the container dies, and raise it."""
        await asyncio.wait((self._trouble,), timeout=_DEATH_S)
        if self._trouble.done():
            raise self._again(self._trouble.result())

    async def stop(self, started: Started) -> Ending:
        """End a command and all that it started: SIGTERM, a grace, SIGKILL."""
        if self.settings.grace > 0:
            await started.signal(15)
            await self.ended(started, self.settings.grace)
        await started.kill()
        return await self.ended(started, _DEATH_S) or Ending(code=_KILLED)

    async def end_commands(self) -> None:
        """End what this process runs in it; what a command has left behind stays."""
        await asyncio.gather(*(started.kill() for started in tuple(self._running)), return_exceptions=True)

    def leave(self, readers: Iterable[PipeReader]) -> None:
        """Go on reading, and throwing away, what left-over children say."""
        self._left = {reader for reader in self._left if reader.open}
        for reader in readers:
            reader.release()
            if reader.open:
                self._left.add(reader)

    def ran_out_of_memory(self) -> bool:
        """Tell whether the kernel killed a process here for want of memory since the last call."""
        seen = self.place.oom_kills()
        more, self._oom_kills = seen - self._oom_kills, max(seen, self._oom_kills)
        return more > 0

    async def close(self) -> None:
        """Let go of the container, once it is gone."""
        for reader in self._left:
            reader.close()
        self._left.clear()
        await self.place.close()

    def _forget(self, started: Started) -> None:
        self._running.discard(started)
        self.last_used = time.monotonic()
        if not started.ended.cancelled():
            started.ended.exception()  # nobody may be waiting


def _kill_late(starting: "asyncio.Future[Started]") -> None:
    if not starting.cancelled() and starting.exception() is None:
        task = asyncio.ensure_future(starting.result().kill())
        _late.add(task)
        task.add_done_callback(_late.discard)


def _require_environment(environment: Mapping[str, str]) -> None:
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise ValueError(f"the environment variable {name!r} has a name or a value that no process can have")


_late: set["asyncio.Future[None]"] = set()
"""Kills of commands that were started for callers who were gone: the event loop holds tasks only weakly."""
