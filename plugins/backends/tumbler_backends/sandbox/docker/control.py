"""The part of a sandbox that is about its life: how long, paused or not, its network, its use."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tumbler.contracts.sandbox import IsolationTier, NetworkPolicy
from tumbler.contracts.sandbox_control import EgressRecord, SandboxInfo, SandboxUsage
from tumbler.errors import CapabilityError, SandboxDied
from tumbler_backends.sandbox.docker.container import Container
from tumbler_backends.sandbox.docker.life import Life
from tumbler_backends.sandbox.docker.network import ContainerNetwork, require_policy
from tumbler_backends.sandbox.docker.owners import Record

__all__ = ["Control", "Controlled", "describe"]


@dataclass(kw_only=True)
class Controlled:
    """What steers one container, and what is known of it."""

    container: Container
    record: Record
    tier: IsolationTier
    network: ContainerNetwork | None
    modes: tuple[str, ...]
    names: Mapping[str, str]
    places: tuple[str, ...]
    """The folders that are file systems in memory."""
    disk_bytes: Callable[[], int | None]
    """Measures those folders; it may block."""
    keep: Callable[[Record], None]
    """Called with the record when it has changed."""

    def died(self, why: str, cause: str) -> SandboxDied:
        """Return the error of a sandbox that is gone."""
        return SandboxDied(f"sandbox {self.record.id} is gone: {why}; create another", cause)


class Control:
    """See `tumbler.contracts.sandbox_control.ControlledSandbox`."""

    _life: Life
    _controlled: Controlled

    async def info(self) -> SandboxInfo:
        """Describe it."""
        return describe(self._controlled.record, self._controlled.tier, paused=self._life.paused)

    async def extend(self, ttl: float) -> None:
        """Let it live `ttl` seconds from now on."""
        self._life.require()
        record = replace(self._controlled.record, expires=time.time() + ttl)
        self._controlled.record = record
        self._controlled.keep(record)

    async def heartbeat(self) -> None:
        """Count as a use, for `idle_ttl`."""
        self._life.require()

    async def pause(self) -> None:
        """Freeze all processes."""
        self._life.require_alive()
        if not self._life.paused:
            await self._controlled.container.pause()
            self._life.paused = True

    async def resume(self) -> None:
        """Undo `pause`."""
        self._life.require_alive()
        if self._life.paused:
            await self._controlled.container.unpause()
            self._life.paused = False

    async def set_network(self, policy: NetworkPolicy) -> None:
        """Replace the network policy at once; connections that it forbids are cut."""
        self._life.require_alive()
        require_policy(policy, self._controlled.modes, self._controlled.names)
        if self._controlled.network is not None:
            await self._controlled.network.set_policy(policy)

    async def egress(self) -> Sequence[EgressRecord]:
        """Return what was tried to be reached, oldest first."""
        return () if self._controlled.network is None else self._controlled.network.egress()

    async def expose(self, port: int) -> str:
        """Return a URL at which this machine reaches a port that is listened on inside."""
        self._life.require_alive()
        if self._controlled.network is None:
            raise CapabilityError("ports can be exposed on the engine's own machine only")
        return await self._controlled.network.expose(port)

    async def usage(self) -> SandboxUsage:
        """Measure what it uses."""
        self._life.require_alive()
        measured, disk = await asyncio.gather(self._life.usage(), asyncio.to_thread(self._controlled.disk_bytes))
        return replace(measured, disk_bytes=disk)


def describe(record: Record, tier: IsolationTier, *, paused: bool) -> SandboxInfo:
    """Return what is told of a sandbox."""
    return SandboxInfo(
        id=record.id,
        backend="docker",
        state="paused" if paused else "running",
        tier=tier,
        created=record.created,
        expires=record.expires,
        owner=record.owner,
        name=record.spec.name,
        image=record.image,
        labels=dict(record.spec.labels),
    )
