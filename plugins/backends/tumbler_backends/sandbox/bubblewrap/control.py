"""The part of a sandbox that is about its life, network and copies."""

import contextlib
import math
import socket
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Protocol

from tumbler.contracts.sandbox import NetworkPolicy, Sandbox, SandboxSpec
from tumbler.contracts.sandbox_control import EgressRecord, SandboxInfo, Template
from tumbler_backends.sandbox.bubblewrap.box import Box
from tumbler_backends.sandbox.bubblewrap.lifetime import Lifetime
from tumbler_backends.sandbox.bubblewrap.ownership.records import Record
from tumbler_backends.sandbox.bubblewrap.relay import PortRelay
from tumbler_backends.sandbox.egress.network_namespace import NamespaceDescriptors, run_in_namespaces

__all__ = ["Control", "Steward"]


class Steward(Protocol):
    """Whose the sandboxes are: the backend, as they see it."""

    def forget(self, identity: str) -> None:
        """Take note that a sandbox is gone."""
        ...

    def expire(self, identity: str, why: str) -> None:
        """Delete a sandbox whose time is over."""
        ...

    def require_network(self, policy: NetworkPolicy) -> None:
        """Raise `CapabilityError` for a policy that cannot be enforced here."""
        ...

    def require_expose(self) -> None:
        """Raise `CapabilityError` where no port can be exposed."""
        ...

    async def snapshot(self, identity: str) -> Template:
        """Make a template of a sandbox's files."""
        ...

    async def fork(self, identity: str, count: int) -> Sequence[Sandbox]:
        """Make sandboxes with the same files."""
        ...


class Control:
    """See `tumbler.contracts.sandbox_control.ControlledSandbox`."""

    def __init__(self, box: Box, record: Record, steward: Steward) -> None:
        """Start the clock of a sandbox that is described by `record`."""
        self._box = box
        self._record = record
        self._steward = steward
        self._relays: dict[int, PortRelay] = {}
        self._urls: dict[int, str] = {}
        self._lifetime = Lifetime(
            record.expires,
            record.spec.idle_ttl,
            last_use=lambda: math.inf if box.busy else box.used,
            end=lambda why: steward.expire(box.name, why),
        )

    @property
    def spec(self) -> SandboxSpec:
        """Return what it was made from."""
        return self._box.spec

    @property
    def record(self) -> Record:
        """Return what is written down of it."""
        return self._record

    async def info(self) -> SandboxInfo:
        """Describe it."""
        self._box.require()
        return self.describe()

    def describe(self) -> SandboxInfo:
        """Do as `info` does, without counting as a use."""
        return replace(self._record.info(), state="paused" if self._box.clock.paused else "running")

    async def extend(self, ttl: float) -> None:
        """Let it live `ttl` seconds from now on."""
        self._box.require()
        expires = time.time() + ttl
        self._lifetime.extend(expires)
        self._write(replace(self._record, expires=expires))

    async def heartbeat(self) -> None:
        """Count as a use, for `idle_ttl`."""
        self._box.require()

    async def set_network(self, policy: NetworkPolicy) -> None:
        """Replace the network policy at once; connections that it forbids are cut."""
        self._box.require()
        self._steward.require_network(policy)
        await self._box.storage.network.set_policy(policy)
        self._write(replace(self._record, spec=replace(self._record.spec, network=policy)))

    async def egress(self) -> Sequence[EgressRecord]:
        """Return what was tried to be reached, oldest first."""
        self._box.require()
        return self._box.storage.network.records()

    async def expose(self, port: int) -> str:
        """Return a URL of this machine's loopback for a port inside; it stays the same as long as the sandbox lives."""
        self._box.require()
        self._steward.require_expose()
        if port not in self._urls:
            relay = PortRelay(port, self._inner_socket)
            self._relays[port] = relay
            self._urls[port] = await relay.start()
        return self._urls[port]

    async def snapshot(self) -> Template:
        """Copy its files into a template; running processes go on, and may be changing the files meanwhile."""
        self._box.require()
        return await self._steward.snapshot(self._box.name)

    async def fork(self, count: int = 1) -> Sequence[Sandbox]:
        """Create sandboxes of the same spec with the same files, without the name and the idempotency key."""
        self._box.require()
        return await self._steward.fork(self._box.name, count)

    def close_doors(self) -> None:
        """Stop the clock and what listens outside: the sandbox is going."""
        self._lifetime.cancel()
        for relay in self._relays.values():
            relay.close()
        self._relays.clear()

    def _write(self, record: Record) -> None:
        self._record = record
        record.save(self._box.layout.folder)

    @contextlib.asynccontextmanager
    async def _inner_socket(self) -> AsyncIterator[socket.socket | None]:
        """Lend a TCP socket of the inner network; None where nothing runs, so nothing listens."""
        room = self._box.storage.room
        if room.namespaces is None or not self._box.busy:
            yield None
            return
        async with room.entered() as opened:
            network = NamespaceDescriptors(network=opened.namespaces.network)
            made = run_in_namespaces(network, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            with made:
                yield made
