"""A container's way out: none, or the egress gateway in its network namespace; and ways in to its ports."""

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Final

from tumbler.contracts.sandbox import NetworkPolicy
from tumbler.contracts.sandbox_control import EgressRecord
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.docker.expose import PortRelay
from tumbler_backends.sandbox.egress.egress_log import EgressLog
from tumbler_backends.sandbox.egress.gateway import EgressGateway
from tumbler_backends.sandbox.egress.network_namespace import NamespaceDescriptors
from tumbler_backends.sandbox.egress.policy import compile_policy

__all__ = ["MODES", "ContainerNetwork", "offered_modes", "require_policy"]

MODES: Final = ("none", "allowlist", "public")


class ContainerNetwork:
    """The network namespace of a container on this machine."""

    def __init__(
        self, pid: int, *, log: EgressLog, sandbox: str, trajectory: str | None, names: Mapping[str, str]
    ) -> None:
        """Open the namespace of process `pid`; it has no interface but `lo`."""
        self._namespaces = NamespaceDescriptors(network=os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        self._log = log
        self._sandbox = sandbox
        self._trajectory = trajectory
        self._names = names
        self._turn = asyncio.Lock()
        self._gateway: EgressGateway | None = None
        self._relays: dict[int, tuple[PortRelay, str]] = {}

    async def set_policy(self, policy: NetworkPolicy) -> None:
        """Let out what `policy` allows, and nothing else; connections that it forbids are cut."""
        async with self._turn:
            if self._gateway is not None:
                await self._gateway.set_policy(policy)
                return
            if policy.mode == "none":  # without a gateway nothing gets out
                return
            gateway = EgressGateway(
                self._namespaces,
                policy,
                log=self._log,
                sandbox=self._sandbox,
                trajectory=self._trajectory,
                names=self._names,
            )
            await gateway.start()
            self._gateway = gateway

    def egress(self) -> Sequence[EgressRecord]:
        """Return what was tried, oldest first."""
        return self._log.of(self._sandbox)

    async def expose(self, port: int) -> str:
        """Return a URL on this machine's loopback that leads to a port inside."""
        if not 0 < port < 1 << 16:
            raise ValueError(f"a port is between 1 and 65535, not {port}")
        async with self._turn:
            if port not in self._relays:
                relay = PortRelay(port, self._namespaces)
                self._relays[port] = (relay, await relay.start())
            return self._relays[port][1]

    async def close(self) -> None:
        """Cut everything, and let go of the namespace."""
        async with self._turn:
            for relay, _ in self._relays.values():
                await relay.close()
            self._relays.clear()
            gateway, self._gateway = self._gateway, None
            if gateway is not None:
                await gateway.close()
            self._namespaces.close()


def offered_modes(*, past_the_engine: bool) -> tuple[str, ...]:
    """Return the network modes that can be enforced on this machine."""
    programs = all(shutil.which(program) is not None for program in ("nft", "ip"))
    return MODES if past_the_engine and programs else ("none",)


def require_policy(policy: NetworkPolicy, offered: Sequence[str], names: Mapping[str, str]) -> None:
    """Raise `CapabilityError` for a policy that cannot be enforced."""
    if policy.mode not in offered:
        raise CapabilityError(
            f"network mode {policy.mode!r} is not offered here, only {', '.join(offered)}: the gateway needs an "
            "engine on this machine, this process to be root, and nft and ip (`apt-get install nftables iproute2`)"
        )
    try:
        compile_policy(policy, names)
    except ValueError as error:
        raise CapabilityError(f"the network policy cannot be enforced: {error}") from error
