"""How commands are started in one container: the seam between the contract's promises and the two ways to a container.

`local.py` goes past the engine, `remote.py` through it. What lies above this seam knows neither.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tumbler.contracts.sandbox_control import SandboxUsage
from tumbler.contracts.sandbox_process import TerminalSize
from tumbler_backends.sandbox.docker.launching import Ending

__all__ = ["Order", "Place", "Started"]


@dataclass(frozen=True, kw_only=True)
class Order:
    """A command to start."""

    words: Sequence[str]
    cwd: str
    """Absolute."""
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment."""
    terminal: TerminalSize | None = None


class Started(Protocol):
    """A command that was started, and all that it starts."""

    ended: "asyncio.Future[Ending]"
    """Settled when the command itself has ended; its children may live on."""

    @property
    def pid(self) -> int | None:
        """Return the process id, where it is known."""
        ...

    @property
    def terminal(self) -> int | None:
        """Return the descriptor of its terminal; who takes it closes it."""
        ...

    async def signal(self, number: int) -> None:
        """Send a signal to the command and all its children."""
        ...

    async def kill(self) -> None:
        """End the command and all its children at once; return when they are gone."""
        ...

    async def release(self) -> None:
        """Let the children that are left live on; call it once the command has ended."""
        ...


class Place(Protocol):
    """One container as a place to start commands in."""

    gone: "asyncio.Future[None]"
    """Settled when the container's first process has ended."""

    async def start(self, order: Order, streams: Sequence[int]) -> Started:
        """Start a command with these descriptors as its three streams, which the caller closes; none for a terminal.

        Raises the builtin `OSError` classes where the working directory cannot be entered.
        """
        ...

    async def open_outputs(self, number: int) -> tuple[int, int]:
        """Make the named pipes `<number>o` and `<number>e` in the control folder; return their reading ends."""
        ...

    async def make_input(self, number: int) -> str:
        """Make the named pipe `<number>i`; return its path inside."""
        ...

    async def open_input(self, number: int) -> int | None:
        """Return the writing end of that pipe, which does not block; None as long as nobody reads."""
        ...

    async def close_outputs(self, number: int) -> None:
        """Remove the names of a number's pipes; who has the pipes open goes on."""
        ...

    def oom_kills(self) -> int:
        """Return how many processes the kernel killed here for want of memory."""
        ...

    async def usage(self) -> SandboxUsage:
        """Measure what the container uses."""
        ...

    def dying(self) -> bool:
        """Tell whether the container's first process has ended or is about to."""
        ...

    async def close(self) -> None:
        """Let go of the container; call it once it is gone."""
        ...
