"""Whether a sandbox can be used, and why not: what its parts ask before they do anything, and wait on meanwhile."""

import asyncio
import contextlib
import posixpath
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Final, TypeVar

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.contracts.sandbox_control import SandboxUsage
from tumbler.errors import SandboxDied, SandboxError, SandboxUnavailable
from tumbler_backends.sandbox.docker.settings import DockerSettings

__all__ = ["Life"]

Result = TypeVar("Result")

_DEATH_S: Final = 5.0


class Life(ABC):
    """The state that a sandbox's parts share. Subclasses know how its container is reached."""

    def __init__(
        self, identity: str, spec: SandboxSpec, settings: DockerSettings, gone: "asyncio.Future[None]"
    ) -> None:
        """Begin with a running container; `gone` is settled when its first process has ended."""
        self.id = identity
        self.spec = spec
        self.settings = settings
        self.gone = gone
        self.workdir = posixpath.normpath(spec.workdir)
        self.paused = False
        self.commands = 0
        """How many commands and session commands were run."""
        self.infra_failures = 0
        self.last_used = time.monotonic()
        self._trouble: asyncio.Future[SandboxError] = asyncio.get_running_loop().create_future()

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Tell whether a command runs."""

    @abstractmethod
    async def usage(self) -> SandboxUsage:
        """Measure what the container uses."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the container, once it is gone or is somebody else's."""

    @abstractmethod
    async def end_commands(self) -> None:
        """End what this process runs in it, where it can; what a command has left behind stays."""

    def idle_seconds(self) -> float:
        """Return for how long nothing has happened; 0 while a command runs."""
        if self.busy:
            self.last_used = time.monotonic()
        return time.monotonic() - self.last_used

    def require(self) -> None:
        """Raise why the sandbox cannot be used now."""
        self.require_alive()
        if self.paused:
            raise SandboxUnavailable(f"sandbox {self.id} is paused: resume it first")

    def require_alive(self) -> None:
        """Raise why the sandbox cannot even be steered; a paused one can."""
        self.last_used = time.monotonic()
        if self._trouble.done():
            raise self._again(self._trouble.result())

    def die(self, error: SandboxDied) -> None:
        """Say that the sandbox is gone for good; the first reason stays."""
        if self._trouble.done():
            if isinstance(self._trouble.result(), SandboxDied):
                return
            self._trouble = asyncio.get_running_loop().create_future()
        self._trouble.set_result(error)

    def suspend(self, error: SandboxUnavailable) -> None:
        """Say that the sandbox cannot be used for now."""
        if not self._trouble.done():
            self._trouble.set_result(error)

    def recover(self) -> None:
        """Undo `suspend`."""
        if self._trouble.done() and isinstance(self._trouble.result(), SandboxUnavailable):
            self._trouble = asyncio.get_running_loop().create_future()

    @property
    def death(self) -> SandboxDied | None:
        """Return why the sandbox is gone; None while it is there."""
        error = self._trouble.result() if self._trouble.done() else None
        return error if isinstance(error, SandboxDied) else None

    async def guarded(self, work: Awaitable[Result]) -> Result:
        """Wait for `work`, or raise why the sandbox cannot be used any more; then `work` is cancelled."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self._trouble), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise self._again(self._trouble.result())
            return task.result()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):  # its outcome is of no use to anybody
                if not task.done():
                    await asyncio.wait((task,), timeout=_DEATH_S)

    def _again(self, error: SandboxError) -> SandboxError:
        """Return a fresh copy: one exception must not be raised in many tasks."""
        self.infra_failures += 1
        if isinstance(error, SandboxDied):
            return SandboxDied(str(error), error.cause)
        return type(error)(str(error))
