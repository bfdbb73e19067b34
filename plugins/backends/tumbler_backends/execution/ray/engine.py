"""An inference backend in actors, as any process of the cluster asks it: one replica for all turns of a session."""

import asyncio
import pickle
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tumbler.contracts.inference import GenerateRequest, Generation, TextTokenizer, WeightUpdate
from tumbler.errors import InferenceError
from tumbler_backends.execution.ray.calls import ActorLost, NoAnswer, ask, ask_cancellable

if TYPE_CHECKING:
    from ray.actor import ActorHandle

__all__ = ["RAY_PAUSE_S", "CalledReplicas"]

RAY_PAUSE_S = 0.5
"""Between two questions whether a replica is back."""


@dataclass(eq=False)
class _Replica:
    actor: "ActorHandle[Any]"
    in_flight: int = 0
    lost: bool = False
    """Whether it has failed to answer since it last did."""
    back: "asyncio.Task[None] | None" = None
    """Waits until it is back."""


class CalledReplicas:
    """An `InferenceBackend` whose replicas are actors; their life and their weights are another's affair.

    It can be pickled: whoever gets it spreads sessions over the replicas by its own count.
    """

    def __init__(
        self, actors: "Sequence[ActorHandle[Any]]", tokenizer: bytes, *, request_timeout: float, start_timeout: float
    ) -> None:
        """Call these actors; `tokenizer` is pickled."""
        self._given = (tuple(actors), tokenizer, request_timeout, start_timeout)
        self._replicas = [_Replica(actor) for actor in actors]
        self._packed = tokenizer
        self._request_timeout = request_timeout
        self._start_timeout = start_timeout
        self._sessions: dict[str, _Replica] = {}

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        """Hand over how to reach the replicas, and nothing of what is in flight here."""
        return _called_replicas, self._given

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """Return this process's copy of the tokenizer."""
        tokenizer: TextTokenizer = pickle.loads(self._packed)
        return tokenizer

    async def start(self, model: Path) -> None:
        """Refuse: the replicas are started."""
        raise InferenceError("the engine is started where the run is led, not by a worker for episodes")

    async def generate(self, request: GenerateRequest) -> Generation:
        """Return one reply; cancelling the call cancels it in the replica.

        Raises `InferenceError` where the replica dies; the next request waits until one is back.
        """
        replica = self._replica(request.session)
        if replica.lost:
            await self._until_back(replica)
        replica.in_flight += 1
        try:
            generation: Generation = await ask_cancellable(
                replica.actor, "generate", request, seconds=self._request_timeout, what="a reply"
            )
        except ActorLost as error:
            self._lose(replica)
            raise InferenceError(f"the replica of the engine that was asked is gone: {error}") from error
        except NoAnswer as error:
            raise InferenceError(f"{error}; the bound is request_timeout of the execution backend") from error
        finally:
            replica.in_flight -= 1
        return generation

    async def release(self, session: str) -> None:
        """Forget what is cached for the session."""
        replica = self._sessions.pop(session, None)
        if replica is None or replica.lost:
            return
        try:
            await ask(replica.actor.release.remote(session), self._request_timeout, "a release")
        except ActorLost:
            self._lose(replica)  # what it had cached is gone with it
        except NoAnswer as error:
            raise InferenceError(str(error)) from error

    async def update_weights(self, update: WeightUpdate) -> None:
        """Refuse: episodes read the policy."""
        raise InferenceError("the weights are changed where the run is led, not by a worker for episodes")

    def metrics(self) -> Mapping[str, float]:
        """Return nothing: the counters are kept where the run is led."""
        return {}

    async def close(self) -> None:
        """Leave the replicas as they are, and wait for none any more."""
        for replica in self._replicas:
            if replica.back is not None:
                replica.back.cancel()

    def _replica(self, session: str) -> _Replica:
        """Return the session's replica, or the one with least to do for a session that has none that lives."""
        replica = self._sessions.get(session)
        if replica is None or replica.lost:
            replica = min(self._replicas, key=lambda each: (each.lost, each.in_flight))
        if session:
            self._sessions[session] = replica
        return replica

    def _lose(self, replica: _Replica) -> None:
        """Leave the replica out until it is back."""
        if not replica.lost:
            replica.lost = True
            replica.back = asyncio.ensure_future(self._until_back(replica))
            replica.back.add_done_callback(lambda done: None if done.cancelled() else done.exception())

    async def _until_back(self, replica: _Replica) -> None:
        deadline = time.monotonic() + self._start_timeout
        while replica.lost:
            left = deadline - time.monotonic()
            try:
                await ask(replica.actor.ready.remote(), max(left, RAY_PAUSE_S), "waiting for a replica of the engine")
                replica.lost = False
            except (ActorLost, NoAnswer) as error:
                if time.monotonic() > deadline:
                    raise InferenceError(f"no replica of the engine came back: {error}") from error
                await asyncio.sleep(RAY_PAUSE_S)


def _called_replicas(
    actors: "Sequence[ActorHandle[Any]]", tokenizer: bytes, request_timeout: float, start_timeout: float
) -> CalledReplicas:
    return CalledReplicas(actors, tokenizer, request_timeout=request_timeout, start_timeout=start_timeout)
