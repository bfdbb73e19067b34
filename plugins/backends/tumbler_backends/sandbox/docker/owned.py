"""What all sandboxes of this backend have: an id, an owner, an end, copies; knows not how commands get in."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from tumbler.contracts.sandbox import ExecResult, IsolationTier, Sandbox, SandboxSpec
from tumbler.contracts.sandbox_control import Template
from tumbler.errors import SandboxError
from tumbler_backends.sandbox.docker.control import Control, Controlled
from tumbler_backends.sandbox.docker.life import Life

__all__ = ["Keeper", "OwnedSandbox"]

_ALIVE_S: Final = 10.0


class Keeper(Protocol):
    """What a sandbox needs its backend for."""

    async def remove(self, sandbox: "OwnedSandbox") -> None:
        """Remove it, its processes and its files."""
        ...

    async def snapshot(self, sandbox: "OwnedSandbox") -> Template:
        """Copy its files."""
        ...

    async def fork(self, sandbox: "OwnedSandbox", count: int) -> Sequence[Sandbox]:
        """Make sandboxes like it."""
        ...


class OwnedSandbox(Control):
    """A sandbox that its backend made and removes. Subclasses run commands and know the files."""

    def __init__(self, life: Life, controlled: Controlled, keeper: Keeper) -> None:
        """Take over a running container; `keeper` removes and copies it."""
        self._life = life
        self._controlled = controlled
        self._keeper = keeper
        self._deletion: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        """Return the sandbox's unique id."""
        return self._life.id

    @property
    def tier(self) -> IsolationTier:
        """Return the isolation actually obtained."""
        return self._controlled.tier

    @property
    def spec(self) -> SandboxSpec:
        """Return what it was made from."""
        return self._life.spec

    @property
    def life(self) -> Life:
        """Return the state that its parts share; for the backend."""
        return self._life

    @property
    def controlled(self) -> Controlled:
        """Return what steers its container; for the backend."""
        return self._controlled

    async def exec(self, command: Sequence[str], *, timeout: float = 60.0) -> ExecResult:
        """Run one command; subclasses override this with all that the contract asks for."""
        raise NotImplementedError(f"{type(self).__name__} must override exec")

    async def alive(self) -> bool:
        """Tell whether the sandbox really executes a command now."""
        try:
            return (await self.exec(["true"], timeout=_ALIVE_S)).exit_code == 0
        except (SandboxError, OSError):
            return False

    async def delete(self) -> None:
        """Kill all processes and remove every trace."""
        await self.delete_because("it was deleted", "deleted")

    async def delete_because(self, why: str, cause: str) -> None:
        """Delete the sandbox; `why` and `cause` are what later calls report."""
        if self._deletion is None or (self._deletion.done() and self._deletion.exception() is not None):
            self._life.die(self._controlled.died(why, cause))
            self._deletion = asyncio.get_running_loop().create_task(self._keeper.remove(self))
        await asyncio.shield(self._deletion)

    async def snapshot(self) -> Template:
        """Copy its files into a template; processes are not part of it."""
        self._life.require()
        return await self._keeper.snapshot(self)

    async def fork(self, count: int = 1) -> Sequence[Sandbox]:
        """Create sandboxes of the same spec with the same files."""
        self._life.require()
        return await self._keeper.fork(self, count)
