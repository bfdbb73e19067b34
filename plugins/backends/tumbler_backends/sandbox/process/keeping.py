"""The books about a backend's living sandboxes: names, times to live, counts; makes none."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tumbler.contracts.sandbox_control import BackendMetrics, SandboxInfo
from tumbler.errors import SandboxNameTaken

if TYPE_CHECKING:
    from tumbler_backends.sandbox.process.sandbox import ProcessSandbox

__all__ = ["Counts", "Keeper"]

_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, math.inf)

_TICK_S: Final = 0.5
"""How late an expiry may be noticed that was brought forward."""

Expire = Callable[["ProcessSandbox", str], Awaitable[None]]


@dataclass(kw_only=True)
class Counts:
    """Counts since the backend was built."""

    created: int = 0
    deleted: int = 0
    expired: int = 0
    start_failures: int = 0
    commands: int = 0
    start_seconds: dict[float, int] = field(default_factory=lambda: dict.fromkeys(_BOUNDS, 0))

    def started(self, seconds: float) -> None:
        """Count a start."""
        self.created += 1
        for bound in _BOUNDS:
            self.start_seconds[bound] += seconds <= bound

    def metrics(self, living: int) -> BackendMetrics:
        """Return them as the contract wants them."""
        return BackendMetrics(
            sandboxes=living,
            created=self.created,
            deleted=self.deleted,
            expired=self.expired,
            start_failures=self.start_failures,
            commands=self.commands,
            start_seconds=dict(self.start_seconds),
        )


@dataclass(kw_only=True)
class _Entry:
    created: float
    expires: float
    paused: bool = False
    timer: asyncio.Task[None] | None = None


class Keeper:
    """Knows the living sandboxes and ends those whose time is over."""

    def __init__(self) -> None:
        """Begin with none."""
        self._entries: dict[ProcessSandbox, _Entry] = {}

    def add(self, sandbox: "ProcessSandbox") -> None:
        """Take in a sandbox; raise `SandboxNameTaken` for a name that another has."""
        name = sandbox.spec.name
        if name is not None and self.find(name) is not None:
            raise SandboxNameTaken(
                f"the name {name!r} belongs to another living sandbox; delete it, or take another name"
            )
        now = time.time()
        self._entries[sandbox] = _Entry(created=now, expires=now + sandbox.spec.ttl)

    def watch(self, sandbox: "ProcessSandbox", expire: Expire) -> None:
        """Call `expire` with the reason once the sandbox's time is over."""
        entry = self._entries.get(sandbox)
        if entry is not None:
            entry.timer = asyncio.get_running_loop().create_task(self._watch(sandbox, entry, expire))

    def find(self, identity: str) -> "ProcessSandbox | None":
        """Return a sandbox by id or name."""
        return next((each for each in self._entries if identity in (each.id, each.spec.name)), None)

    def has(self, sandbox: "ProcessSandbox") -> bool:
        """Tell whether it lives."""
        return sandbox in self._entries

    def sandboxes(self) -> "list[ProcessSandbox]":
        """Return all, oldest first."""
        return list(self._entries)

    def describe(self, sandbox: "ProcessSandbox", owner: str) -> SandboxInfo:
        """Return what is known of a sandbox."""
        entry, spec = self._entries[sandbox], sandbox.spec
        return SandboxInfo(
            id=sandbox.id,
            backend="process",
            state="paused" if entry.paused else "running",
            tier=sandbox.tier,
            created=entry.created,
            expires=entry.expires,
            owner=owner,
            name=spec.name,
            labels=dict(spec.labels),
        )

    def extend(self, sandbox: "ProcessSandbox", ttl: float) -> None:
        """Let a sandbox live `ttl` seconds from now on."""
        self._entries[sandbox].expires = time.time() + ttl

    def mark(self, sandbox: "ProcessSandbox", *, paused: bool) -> None:
        """Record whether it is paused."""
        self._entries[sandbox].paused = paused

    def forget(self, sandbox: "ProcessSandbox") -> bool:
        """Drop a sandbox; tell whether it was there."""
        return self._entries.pop(sandbox, None) is not None

    async def sweep(self) -> int:
        """Delete what is past its time; return how many that were."""
        late = [sandbox for sandbox, entry in self._entries.items() if entry.expires <= time.time()]
        await asyncio.gather(*(sandbox.delete_because("ttl", "its time to live is over") for sandbox in late))
        return len(late)

    async def close(self) -> None:
        """Delete all."""
        entries = dict(self._entries)
        await asyncio.gather(*(sandbox.delete() for sandbox in entries))
        timers = [entry.timer for entry in entries.values() if entry.timer is not None]
        await asyncio.gather(*timers, return_exceptions=True)

    async def _watch(self, sandbox: "ProcessSandbox", entry: _Entry, expire: Expire) -> None:
        idle_ttl = sandbox.spec.idle_ttl
        while sandbox in self._entries:
            now = time.time()
            rests = [entry.expires - now]
            if idle_ttl is not None:
                rests.append(sandbox.idle_rest(idle_ttl))
            if min(rests) <= 0:
                why = "its time to live is over" if rests[0] <= 0 else f"nobody used it for {idle_ttl:g} s"
                await expire(sandbox, why)
                return
            await asyncio.sleep(min([*rests, _TICK_S]))
