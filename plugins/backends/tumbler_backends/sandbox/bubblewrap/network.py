"""One sandbox's way out: nothing at all until its policy allows something; knows no files."""

import asyncio
import shutil
from collections.abc import Mapping, Sequence

from tumbler.contracts.sandbox import NetworkPolicy
from tumbler.contracts.sandbox_control import EgressRecord
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.egress.egress_log import EgressLog
from tumbler_backends.sandbox.egress.gateway import EgressGateway
from tumbler_backends.sandbox.egress.network_namespace import NamespaceDescriptors
from tumbler_backends.sandbox.egress.policy import compile_policy

__all__ = ["Network", "offered_modes", "require_policy"]


class Network:
    """The gateway of an open room, made where the policy needs one."""

    def __init__(
        self, policy: NetworkPolicy, *, log: EgressLog, sandbox: str, trajectory: str | None, names: Mapping[str, str]
    ) -> None:
        """Keep the policy for when there is a room."""
        self.policy = policy
        self._log = log
        self._sandbox = sandbox
        self._trajectory = trajectory
        self._names = names
        self._namespaces: NamespaceDescriptors | None = None
        self._gateway: EgressGateway | None = None
        self._turn = asyncio.Lock()

    @property
    def gated(self) -> bool:
        """Tell whether a gateway is open."""
        return self._gateway is not None

    async def open(self, namespaces: NamespaceDescriptors) -> None:
        """Apply the policy to a new room, before anything runs in it."""
        async with self._turn:
            self._namespaces = namespaces
            await self._apply()

    async def set_policy(self, policy: NetworkPolicy) -> None:
        """Replace the policy at once."""
        require_policy(policy, self._names)
        async with self._turn:
            self.policy = policy
            if self._namespaces is not None:
                await self._apply()

    async def close(self) -> None:
        """Cut everything: the room is about to be closed."""
        async with self._turn:
            self._namespaces = None
            gateway, self._gateway = self._gateway, None
            if gateway is not None:
                await gateway.close()

    def records(self) -> Sequence[EgressRecord]:
        """Return what was tried."""
        return self._log.of(self._sandbox)

    async def _apply(self) -> None:
        if self._gateway is not None:
            await self._gateway.set_policy(self.policy)
        elif self.policy.mode != "none" and self._namespaces is not None:
            gateway = EgressGateway(
                self._namespaces,
                self.policy,
                log=self._log,
                sandbox=self._sandbox,
                trajectory=self._trajectory,
                names=self._names,
            )
            await gateway.start()
            self._gateway = gateway


def require_policy(policy: NetworkPolicy, names: Mapping[str, str]) -> None:
    """Raise `CapabilityError` for a policy that the gateway does not understand."""
    try:
        compile_policy(policy, names)
    except ValueError as error:
        raise CapabilityError(f"the network policy cannot be enforced: {error}") from error


def offered_modes() -> tuple[str, ...]:
    """Return the network modes that this machine has the programs for."""
    programs = all(shutil.which(program) is not None for program in ("nft", "ip"))
    return ("none", "allowlist", "public") if programs else ("none",)
