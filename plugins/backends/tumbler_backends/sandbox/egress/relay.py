"""Take the sandbox's TCP connections, and lead those that the policy allows outside."""

import asyncio
import ipaddress
import socket
import struct
from typing import Final

from tumbler_backends.sandbox.egress.addresses import FAKE_NETWORK, Address, parse_address
from tumbler_backends.sandbox.egress.dialer import Dialer, Refused, Route, Target, Unreachable
from tumbler_backends.sandbox.egress.fake_addresses import FakeAddresses
from tumbler_backends.sandbox.egress.ledger import Entry, Ledger
from tumbler_backends.sandbox.egress.name_service import NameService
from tumbler_backends.sandbox.egress.name_stream import NameStream
from tumbler_backends.sandbox.egress.pipe import Pipe, PipeEnd, reset
from tumbler_backends.sandbox.egress.policy import Decision, EgressPolicy

__all__ = ["Relay"]

_ORIGINAL_DESTINATION: Final = 80
_DNS_PORT: Final = 53
_BACKLOG: Final = 1024


class Relay:
    """All TCP connections of one sandbox."""

    def __init__(
        self, dialer: Dialer, names: NameService, addresses: FakeAddresses, ledger: Ledger, *, limit: int
    ) -> None:
        """Serve at most `limit` connections at one time; more are refused."""
        self._dialer = dialer
        self._names = names
        self._addresses = addresses
        self._ledger = ledger
        self._limit = limit
        self._servers: list[asyncio.Server] = []
        self._connections: set[_Connection] = set()
        self._questions: set[NameStream] = set()

    @property
    def connections(self) -> int:
        """Return how many connections there are now, those being made included."""
        return len(self._connections) + len(self._questions)

    async def listen(self, doors: list[socket.socket]) -> None:
        """Take connections from these listeners, which it then owns."""
        loop = asyncio.get_running_loop()
        # In two steps, because starting waits: none is forgotten where that is cancelled.
        for door in doors:
            server = await loop.create_server(
                lambda: PipeEnd(self._accept), sock=door, backlog=_BACKLOG, start_serving=False
            )
            self._servers.append(server)
        for server in self._servers:
            await server.start_serving()

    def enforce(self, policy: EgressPolicy) -> None:
        """Cut the connections that a new policy forbids."""
        for connection in tuple(self._connections):
            connection.enforce(policy)

    async def close(self) -> None:
        """Cut all connections and take no more."""
        for server in self._servers:
            server.close()
        for stream in tuple(self._questions):
            stream.close()
        open_connections = tuple(self._connections)
        for connection in open_connections:
            connection.cut()
        await asyncio.gather(*(connection.task for connection in open_connections), return_exceptions=True)

    def _accept(self, end: PipeEnd) -> None:
        assert end.transport is not None
        address, port = _aimed_at(end.transport)
        name = self._addresses.name_of(address)
        refusal = self._refusal(address, port, name)
        if refusal is not None:
            self._ledger.enter("tcp", str(address), port, Decision(allowed=False, reason=refusal), host=name)
            reset(end.transport)
        elif port == _DNS_PORT:
            stream = NameStream(self._names, str(address), self._questions.discard)
            self._questions.add(stream)
            stream.adopt(end.transport)
        else:
            target = Target(address=address, port=port, name=name)
            connection = _Connection(end, target, self._dialer, self._ledger)
            self._connections.add(connection)
            connection.over.add_done_callback(lambda _: self._connections.discard(connection))

    def _refusal(self, address: Address, port: int, name: str | None) -> str | None:
        if self.connections >= self._limit:
            return f"more than {self._limit} connections at one time"
        if address.is_loopback or address.is_unspecified:
            return "the gateway's own port"
        if address in FAKE_NETWORK and name is None and port != _DNS_PORT:
            return "an address that stands for no name: it was not asked for, or long ago"
        return None


class _Connection:
    """One connection from the sandbox: first being judged and made, then a pipe."""

    def __init__(self, end: PipeEnd, target: Target, dialer: Dialer, ledger: Ledger) -> None:
        loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = loop.create_future()
        self._end = end
        self._target = target
        self._dialer = dialer
        self._ledger = ledger
        self._route: Route | None = None
        self._pipe: Pipe | None = None
        self.task = loop.create_task(self._open())

    def enforce(self, policy: EgressPolicy) -> None:
        """Cut the connection if the policy forbids it; one in the making judges itself."""
        if self._route is None or self._pipe is None:
            return
        decision = self._route.judge(policy)
        if not decision.allowed:
            reason = f"cut by a change of policy: {decision.reason}"
            self._enter(Decision(allowed=False, reason=reason))
            self._pipe.cut()

    def cut(self) -> None:
        """End it now."""
        if self._pipe is not None:
            self._pipe.cut()
        self.task.cancel()

    async def _open(self) -> None:
        try:
            outer, route, decision = await self._dialer.dial(self._target)
        except Refused as refusal:
            self._enter(Decision(allowed=False, reason=str(refusal)))
        except Unreachable as failure:
            self._enter(Decision(allowed=True, reason=str(failure)))
        else:
            self._route = route
            reason = decision.reason if route.target.name is None else f"{decision.reason}, at {route.address}"
            entry = self._enter(Decision(allowed=True, reason=reason))
            self._pipe = Pipe(self._end, outer, lambda: self._finish(entry))
        finally:
            if self._pipe is None:
                assert self._end.transport is not None
                reset(self._end.transport)
                self.over.set_result(None)

    def _finish(self, entry: Entry) -> None:
        assert self._pipe is not None
        entry.finish(self._pipe.sent, self._pipe.received)
        self.over.set_result(None)

    def _enter(self, decision: Decision) -> Entry:
        target = self._target
        return self._ledger.enter("tcp", str(target.address), target.port, decision, host=target.name)


def _aimed_at(transport: asyncio.Transport) -> tuple[Address, int]:
    """Return where the sandbox's process wanted to connect to, before the rules led it here."""
    connection: socket.socket = transport.get_extra_info("socket")
    try:
        if connection.family == socket.AF_INET:
            raw = connection.getsockopt(socket.IPPROTO_IP, _ORIGINAL_DESTINATION, 16)
            return ipaddress.IPv4Address(raw[4:8]), struct.unpack_from("!H", raw, 2)[0]
        raw = connection.getsockopt(socket.IPPROTO_IPV6, _ORIGINAL_DESTINATION, 28)
        return parse_address(str(ipaddress.IPv6Address(raw[8:24]))), struct.unpack_from("!H", raw, 2)[0]
    except OSError:  # gone meanwhile, or led here by no rule
        return ipaddress.IPv4Address(0), 0
