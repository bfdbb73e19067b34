"""The one door out of a sandbox's network namespace."""

import asyncio
from collections.abc import Mapping
from typing import Final

from tumbler.contracts.sandbox import NetworkPolicy
from tumbler_backends.sandbox.egress.addresses import is_own_address
from tumbler_backends.sandbox.egress.dialer import Dialer
from tumbler_backends.sandbox.egress.door_opening import open_doors_in
from tumbler_backends.sandbox.egress.egress_log import EgressLog
from tumbler_backends.sandbox.egress.fake_addresses import FakeAddresses
from tumbler_backends.sandbox.egress.firewall import Ports, load_routes_and_rules, load_rules, rules_for
from tumbler_backends.sandbox.egress.ledger import Ledger
from tumbler_backends.sandbox.egress.name_service import DatagramDoor, NameService
from tumbler_backends.sandbox.egress.network_namespace import NamespaceDescriptors
from tumbler_backends.sandbox.egress.packet_door import PacketDoor
from tumbler_backends.sandbox.egress.packet_log import RefusedPacket
from tumbler_backends.sandbox.egress.policy import Decision, EgressPolicy, compile_policy
from tumbler_backends.sandbox.egress.relay import Relay
from tumbler_backends.sandbox.egress.resolver import Resolver, resolve_on_host

__all__ = ["EgressGateway"]

_CONNECTIONS: Final = 256
_CONNECT_S: Final = 15.0
_DNS_PORT: Final = 53


class EgressGateway:
    """Leads the traffic of one network namespace out as far as its policy allows, and logs all of it.

    Only TCP gets out. DNS is answered here, and everything else is refused. `start` it before
    anything untrusted runs inside, and `close` it, in one event loop.

    Args:
        namespaces: A network namespace that has no interface but `lo`: from `make_namespaces`, or a
            container's. The caller keeps the descriptors open until `close`, and closes them.
        policy: What may be reached at first; `set_policy` replaces it.
        log: Where attempts are recorded.
        sandbox: The sandbox's id, for the records.
        trajectory: The sandbox's label `trajectory`, for the records.
        names: The operator's static names → addresses, like curl's `--resolve`. They alone can lead
            to this machine itself, and only where the policy allows the name.
        resolver: Asked for the addresses of other allowed names, when a connection is made.
        connections: How many connections the sandbox may have at one time.
        connect_timeout: Seconds for looking up and connecting.
    """

    def __init__(
        self,
        namespaces: NamespaceDescriptors,
        policy: NetworkPolicy,
        *,
        log: EgressLog,
        sandbox: str,
        trajectory: str | None = None,
        names: Mapping[str, str] | None = None,
        resolver: Resolver = resolve_on_host,
        connections: int = _CONNECTIONS,
        connect_timeout: float = _CONNECT_S,
    ) -> None:
        """Plan the gateway; raises `ValueError` where an entry of the policy or of `names` is wrong."""
        self._namespaces = namespaces
        self._static = dict(names or {})
        self._policy = compile_policy(policy, self._static)
        self._ledger = Ledger(log, sandbox, trajectory)
        self._addresses = FakeAddresses()
        self._names = NameService(self._addresses, self._current, self._record_question)
        dialer = Dialer(resolver, self._current, connect_timeout)
        self._relay = Relay(dialer, self._names, self._addresses, self._ledger, limit=connections)
        self._doors: list[DatagramDoor | PacketDoor] = []
        self._ports: Ports | None = None
        self._turn = asyncio.Lock()

    @property
    def policy(self) -> EgressPolicy:
        """Return the policy in force."""
        return self._policy

    @property
    def connections(self) -> int:
        """Return how many connections the sandbox has now."""
        return self._relay.connections

    async def start(self) -> None:
        """Open the sockets inside and load the rules.

        Raises:
            CapabilityError: a program, a right or the kernel's support is missing.
            SandboxUnavailable: there were too few resources; maybe later.
        """
        try:
            doors = await open_doors_in(self._namespaces)
            self._doors.append(PacketDoor(doors.refused, self._record_packet))
            self._doors += [DatagramDoor(door, self._names) for door in doors.questions]
            self._ports = Ports(*(door.getsockname()[1] for door in doors.listeners))
            await self._relay.listen(doors.listeners)
            async with self._turn:
                await load_routes_and_rules(self._namespaces, rules_for(self._policy, self._ports))
        except BaseException:
            await self.close()
            raise

    async def set_policy(self, policy: NetworkPolicy) -> None:
        """Replace the policy at once and cut the connections that it forbids.

        Raises `ValueError` for a wrong entry, and changes nothing. Where the rules inside cannot be
        loaded (the errors of `start`), the new policy holds all the same: the gateway itself decides.
        """
        compiled = compile_policy(policy, self._static)
        self._policy = compiled
        self._relay.enforce(compiled)
        async with self._turn:
            # The lock is first come, first served: the last policy's rules are loaded last.
            if self._ports is not None:
                await load_rules(self._namespaces, rules_for(compiled, self._ports))

    async def close(self) -> None:
        """Cut everything; the namespace's traffic then leads nowhere. Safe to call twice."""
        self._policy = compile_policy(NetworkPolicy())
        self._ports = None
        await self._relay.close()
        doors, self._doors = self._doors, []
        for door in doors:
            door.close()

    def _current(self) -> EgressPolicy:
        return self._policy

    def _record_question(self, server: str, name: str | None, decision: Decision) -> None:
        self._ledger.enter("dns", server, _DNS_PORT, decision, host=name)

    def _record_packet(self, packet: RefusedPacket) -> None:
        name = self._addresses.name_of(packet.address)
        reason = self._refusal(packet, name)
        decision = Decision(allowed=False, reason=reason)
        self._ledger.enter(packet.protocol, str(packet.address), packet.port, decision, host=name)

    def _refusal(self, packet: RefusedPacket, name: str | None) -> str:
        """Say why the rules inside refused a packet."""
        if packet.protocol != "tcp":
            kind = "UDP" if packet.protocol == "udp" else f"IP protocol {packet.number}"
            return f"{kind} never gets out, only TCP does"
        if name is not None:
            decision = self._policy.name(name, packet.port)
        else:
            decision = self._policy.address(packet.address, packet.port, own=is_own_address(packet.address))
        return f"{decision.reason}, but not when it was tried" if decision.allowed else decision.reason
