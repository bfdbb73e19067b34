"""The servers together: where a session's requests go, weights for all of them, and restarts of those that die."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from tumbler.errors import InferenceError
from tumbler_backends.inference.vllm.calling import ServerGoneError
from tumbler_backends.inference.vllm.replica import Replica
from tumbler_backends.inference.vllm.transfer import Weights

__all__ = ["Fleet"]

_LOGGER = logging.getLogger(__name__)


class Fleet:
    """Replicas that serve the same weights."""

    def __init__(self, replicas: Sequence[Replica], base: Weights) -> None:
        """Take the replicas, and the weights that they have when they come up."""
        self.restarts = 0
        self._replicas = replicas
        self._base = base
        self._current = base
        self._sessions: dict[str, Replica] = {}
        self._loading = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._keepers: list[asyncio.Task[None]] = []
        self._closed = False

    @property
    def alive(self) -> int:
        """Return how many replicas are up."""
        return sum(replica.up for replica in self._replicas)

    async def start(self) -> None:
        """Bring all replicas up, or none and raise `InferenceError`."""
        opening = [asyncio.ensure_future(self._open(replica)) for replica in self._replicas]
        try:
            await asyncio.gather(*opening)
        except BaseException:
            for each in opening:
                each.cancel()
            await asyncio.gather(*opening, return_exceptions=True)
            await self.close()
            raise
        self._keepers = [asyncio.create_task(self._keep(replica)) for replica in self._replicas]

    async def generate(self, session: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Return a reply of the session's replica, or of another if that one is found gone before it was asked."""
        while True:
            replica = await self._choose(session)
            try:
                return await replica.generate(body)
            except ServerGoneError as error:
                if error.reached:
                    raise

    async def load(self, weights: Weights) -> Weights:
        """Have all replicas serve the weights, and return those that none needs any more.

        A replica that dies meanwhile gets them when it is back. Raises `InferenceError` if one serves others.
        """
        async with self._loading:
            former, self._current = self._current, weights
            living = [replica for replica in self._replicas if replica.up]
            outcomes = await asyncio.gather(*(replica.load(weights) for replica in living), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, ServerGoneError):
                raise outcome
        await self._wait_for_one()
        return former

    def release(self, session: str) -> None:
        """Forget where the session's requests went."""
        replica = self._sessions.pop(session, None)
        if replica is not None:
            replica.sessions -= 1

    async def probe(self, session: str) -> None:
        """Look after the session's replica, which has not answered in time."""
        replica = self._sessions.get(session)
        await asyncio.gather(*(each.probe() for each in ([replica] if replica else self._replicas)))

    async def close(self) -> None:
        """End all of them; safe to call twice."""
        self._closed = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(replica.close() for replica in self._replicas))
        await self._notify()

    async def _choose(self, session: str) -> Replica:
        await self._wait_for_one()
        known = self._sessions.get(session)
        if known is not None and known.up:
            return known
        self.release(session)
        chosen = min((each for each in self._replicas if each.up), key=lambda each: (each.in_flight, each.sessions))
        if session:
            self._sessions[session] = chosen
            chosen.sessions += 1
        return chosen

    async def _wait_for_one(self) -> None:
        """Return once a replica is up; raise `InferenceError` when none will be."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._closed or self.alive or all(replica.lost for replica in self._replicas)
            )
        if self._closed:
            raise InferenceError("the inference backend was closed")
        if not self.alive:
            reasons = "\n".join(sorted({replica.lost for replica in self._replicas}))
            raise InferenceError(f"no vLLM server is left, and none may be restarted (setting `restarts`): {reasons}")

    async def _keep(self, replica: Replica) -> None:
        """Restart the replica when it dies, as often as it may be."""
        while True:
            reason = await replica.wait_gone()
            _LOGGER.warning("a vLLM server died, %d restarts left: %s", replica.restarts_left, reason)
            while not replica.up and not replica.lost:
                if not replica.restarts_left:
                    replica.lost = reason
                    break
                replica.restarts_left -= 1
                self.restarts += 1
                reason = await self._restart(replica, reason)
            await self._notify()
            if replica.lost:
                return

    async def _restart(self, replica: Replica, reason: str) -> str:
        """Bring the replica up with the current weights; return why that failed, or the reason given."""
        try:
            await self._open(replica)
        except InferenceError as error:
            _LOGGER.warning("a vLLM server could not be restarted: %s", error)
            await replica.close()
            return str(error)
        return reason

    async def _open(self, replica: Replica) -> None:
        await replica.open()
        # New weights for the others do not wait until a server is up, and none passes by one that is about to serve.
        async with self._loading:
            await replica.serve(self._base, self._current)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
