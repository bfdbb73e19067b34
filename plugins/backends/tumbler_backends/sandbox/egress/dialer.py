"""Open connections outside of the sandbox, to addresses that the policy allows and no others."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tumbler_backends.sandbox.egress.addresses import Address, is_own_address, parse_address
from tumbler_backends.sandbox.egress.pipe import PipeEnd, reset
from tumbler_backends.sandbox.egress.policy import Decision, EgressPolicy
from tumbler_backends.sandbox.egress.resolver import Resolver

__all__ = ["Dialer", "Refused", "Route", "Target", "Unreachable"]

_LOOKUPS_AT_ONCE: Final = 8
_ADDRESSES_TRIED: Final = 4


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a connection of the sandbox was aimed at."""

    address: Address
    port: int
    name: str | None = None
    """The name that the address stands for."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where a connection leads outside, and what is known for judging it again."""

    target: Target
    address: Address
    own: bool
    """Whether this machine itself has the address."""

    def judge(self, policy: EgressPolicy) -> Decision:
        """Decide by a policy whether the connection may go there."""
        if self.target.name is not None:
            return policy.resolved(self.target.name, self.target.port, self.address, own=self.own)
        return policy.address(self.address, self.target.port, own=self.own)


class Refused(Exception):
    """The policy forbids the connection."""


class Unreachable(Exception):
    """The policy allows the connection, but it could not be made."""


class Dialer:
    """Finds a target's address, has it judged, and connects."""

    def __init__(self, resolver: Resolver, policy: Callable[[], EgressPolicy], timeout: float) -> None:
        """Ask `policy` for the policy in force; the look-up and the connecting take `timeout` seconds at most."""
        self._resolver = resolver
        self._policy = policy
        self._timeout = timeout
        self._lookups = asyncio.Semaphore(_LOOKUPS_AT_ONCE)

    async def dial(self, target: Target) -> tuple[PipeEnd, Route, Decision]:
        """Connect to a target; raises `Refused` and `Unreachable` with the reason in words."""
        decision = self._judge(target)
        if not decision.allowed:
            raise Refused(decision.reason)
        try:
            async with asyncio.timeout(self._timeout):
                routes = [self._route(target, address) for address in await self._addresses(target)]
                return await self._connect(routes[:_ADDRESSES_TRIED])
        except TimeoutError as error:
            raise Unreachable(f"{decision.reason}; no connection within {self._timeout} s") from error
        except (OSError, ValueError) as error:  # ValueError, UnicodeError: names that the host's resolver cannot ask
            raise Unreachable(f"{decision.reason}; not reached: {error}") from error

    def _judge(self, target: Target) -> Decision:
        if target.name is not None:
            return self._policy().name(target.name, target.port)
        own = is_own_address(target.address)
        return self._policy().address(target.address, target.port, own=own)

    async def _addresses(self, target: Target) -> list[Address]:
        if target.name is None:
            return [target.address]
        pinned = self._policy().pinned.get(target.name)
        if pinned is not None:
            return [pinned]
        async with self._lookups:
            found = [parse_address(text) for text in await self._resolver(target.name)]
        if not found:
            raise OSError(f"{target.name} has no address")
        return found

    @staticmethod
    def _route(target: Target, address: Address) -> Route:
        return Route(target=target, address=address, own=is_own_address(address))

    async def _connect(self, routes: list[Route]) -> tuple[PipeEnd, Route, Decision]:
        """Connect to the first address that is allowed and answers."""
        refusal: str | None = None
        failure: OSError | None = None
        for route in routes:
            # The policy may have changed since, also while connecting.
            if not (decision := route.judge(self._policy())).allowed:
                refusal = refusal or decision.reason
                continue
            try:
                end = await self._open(route)
            except OSError as error:
                failure = failure or error
                continue
            if (decision := route.judge(self._policy())).allowed:
                return end, route, decision
            if end.transport is not None:
                reset(end.transport)
            refusal = refusal or decision.reason
        if failure is not None:
            raise failure
        raise Refused(refusal or "the name has no address")

    @staticmethod
    async def _open(route: Route) -> PipeEnd:
        loop = asyncio.get_running_loop()
        _, end = await loop.create_connection(PipeEnd, str(route.address), route.target.port)
        return end
