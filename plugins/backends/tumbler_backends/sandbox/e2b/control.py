"""The part of a sandbox that is about its life, network and copies."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

from e2b.api.client_async import get_api_client
from e2b.sandbox.sandbox_api import SandboxNetworkUpdate

from tumbler.contracts.sandbox import NetworkPolicy, Sandbox, SandboxSpec
from tumbler.contracts.sandbox_control import EgressRecord, SandboxInfo, SandboxUsage, Template
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.e2b.admission import egress_rules, require_mode
from tumbler_backends.sandbox.e2b.egress import records_of
from tumbler_backends.sandbox.e2b.settings import E2bSettings
from tumbler_backends.sandbox.e2b.wire import Wire

__all__ = ["Control", "Keeper"]

_HTTP_OK: Final = 200


class Keeper(Protocol):
    """What a sandbox asks of the backend that made it."""

    @property
    def settings(self) -> E2bSettings:
        """Return the settings."""
        ...

    @property
    def exposes(self) -> bool:
        """Tell whether ports inside have addresses."""
        ...

    def forget(self, identity: str) -> None:
        """Learn that a sandbox is gone."""
        ...

    def count_command(self) -> None:
        """Count a command."""
        ...

    async def info(self, identity: str) -> SandboxInfo:
        """Ask the service about a sandbox; raises what E2B's clients raise."""
        ...

    async def snapshot(self, source: "Control") -> Template:
        """Make a template of a sandbox's files; raises what E2B's clients raise."""
        ...

    async def copies(self, source: "Control", count: int) -> Sequence[Sandbox]:
        """Make sandboxes of the same spec with the same files."""
        ...


class Control:
    """See `tumbler.contracts.sandbox_control.ControlledSandbox`."""

    def __init__(self, wire: Wire, spec: SandboxSpec, keeper: Keeper) -> None:
        """Take over a sandbox that was made for `spec`."""
        self._wire = wire
        self._spec = spec
        self._keeper = keeper

    @property
    def id(self) -> str:
        """Return the sandbox's unique id."""
        return self._wire.life.identity

    @property
    def wire(self) -> Wire:
        """Return the way to it."""
        return self._wire

    @property
    def spec(self) -> SandboxSpec:
        """Return what it was made from."""
        return self._spec

    async def info(self) -> SandboxInfo:
        """Describe it."""
        async with self._wire.calling():
            info = await self._keeper.info(self.id)
        self._wire.life.expires = info.expires
        return info

    async def extend(self, ttl: float) -> None:
        """Let it live `ttl` seconds from now on, in whole seconds."""
        seconds = max(1, math.ceil(ttl))
        async with self._wire.calling():
            await self._wire.sdk.set_timeout(seconds)
        self._wire.life.expires = time.time() + seconds

    async def heartbeat(self) -> None:
        """Count as a use."""
        self._wire.life.require()
        self._wire.life.use()

    async def pause(self) -> None:
        """Freeze all processes."""
        async with self._wire.calling():
            self._wire.life.running.clear()
            try:
                await self._wire.sdk.pause()
            except BaseException:
                self._wire.life.running.set()
                raise

    async def resume(self) -> None:
        """Undo `pause`."""
        life = self._wire.life
        async with self._wire.calling():
            seconds = max(1, math.ceil(life.expires - time.time()))
            await self._wire.sdk.connect(timeout=seconds)
        life.running.set()

    async def set_network(self, policy: NetworkPolicy) -> None:
        """Replace the network policy."""
        require_mode(policy, self._keeper.settings)
        async with self._wire.calling():
            await self._wire.sdk.update_network(_update(policy))
        self._spec = replace(self._spec, network=policy)

    async def egress(self) -> Sequence[EgressRecord]:
        """Return what was tried to be reached. E2B's own cloud keeps no such log: there it is empty."""
        async with self._wire.calling():
            client = get_api_client(self._wire.sdk.connection_config).get_async_httpx_client()
            answer = await client.get(f"/sandboxes/{self.id}/egress")
        return records_of(answer.json() if answer.status_code == _HTTP_OK else None)

    async def expose(self, port: int) -> str:
        """Return a URL at which a port inside is reached."""
        self._wire.life.require()
        if not self._keeper.exposes:
            raise CapabilityError("a port inside has no address behind `sandbox_url`: E2B's own cloud gives each one")
        return f"https://{self._wire.sdk.get_host(port)}"

    async def usage(self) -> SandboxUsage:
        """Return what the service measured last; it tells of no processes."""
        async with self._wire.calling():
            samples = await self._wire.sdk.get_metrics()
        if not samples:
            return SandboxUsage()
        last = samples[-1]
        return SandboxUsage(memory_bytes=last.mem_used or None, disk_bytes=last.disk_used or None)

    async def snapshot(self) -> Template:
        """Copy its files into a template."""
        async with self._wire.calling():
            return await self._keeper.snapshot(self)

    async def fork(self, count: int = 1) -> Sequence[Sandbox]:
        """Create sandboxes of the same spec with the same files."""
        self._wire.life.require()
        return await self._keeper.copies(self, count)


def _update(policy: NetworkPolicy) -> SandboxNetworkUpdate:
    rules = egress_rules(policy)
    if rules.allowed:
        return {"allow_out": list(rules.allowed), "deny_out": list(rules.denied)}
    return {"allow_internet_access": rules.internet}
