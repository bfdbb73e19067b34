"""An inference backend in actors, as the process sees it that leads the run: starts, feeds and revives replicas."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from tumbler.contracts.inference import GenerateRequest, Generation, TextTokenizer, WeightUpdate
from tumbler.errors import InferenceError, TumblerError
from tumbler_backends.execution.ray.calls import ActorLost, NoAnswer, ask
from tumbler_backends.execution.ray.engine import RAY_PAUSE_S, CalledReplicas
from tumbler_backends.execution.ray.settings import RaySettings
from tumbler_backends.execution.ray.weights import store

if TYPE_CHECKING:
    from ray.actor import ActorHandle

__all__ = ["PlacedInference"]

_LOG = logging.getLogger("tumbler.execution")
_METRICS_S = 2.0
"""How old the counters are at most."""
_CLOSE_S = 30.0


class PlacedInference:
    """An `InferenceBackend` whose replicas are actors.

    A replica that dies is started again, with the weights that are served then, as often as Ray restarts its
    actor. Pickling it gives what workers for episodes ask.
    """

    def __init__(self, actors: "Sequence[ActorHandle[Any]]", settings: RaySettings) -> None:
        """Lead these actors, which are not started."""
        self._actors = list(actors)
        self._settings = settings
        self._called: CalledReplicas | None = None
        self._model = ""
        self._weights: WeightUpdate | None = None
        self._metrics: Mapping[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        """Hand over how to ask the replicas."""
        return self._started.__reduce__()

    async def start(self, model: Path) -> None:
        """Load the model folder in every replica as policy version 0."""
        settings = self._settings
        self._model = _absolute(model)
        try:
            tokenizers = await asyncio.gather(*(self._start_one(actor) for actor in self._actors))
        except (ActorLost, NoAnswer) as error:
            raise InferenceError(f"a replica of the engine did not start: {error}") from error
        self._called = CalledReplicas(
            self._actors,
            tokenizers[0],
            request_timeout=settings.request_timeout,
            start_timeout=settings.start_timeout,
        )
        self._tasks = [asyncio.ensure_future(self._watch(actor)) for actor in self._actors]
        self._tasks.append(asyncio.ensure_future(self._refresh()))

    @property
    def tokenizer(self) -> TextTokenizer:
        """Return this process's copy of the tokenizer."""
        return self._started.tokenizer

    async def generate(self, request: GenerateRequest) -> Generation:
        """Return one reply."""
        return await self._started.generate(request)

    async def release(self, session: str) -> None:
        """Forget what is cached for the session."""
        await self._started.release(session)

    async def update_weights(self, update: WeightUpdate) -> None:
        """Have every replica serve the new weights, one that is being revived too."""
        _ = self._started
        self._weights = weights = await asyncio.to_thread(store, update)
        await asyncio.gather(*(self._update_one(actor, weights) for actor in self._actors))

    def metrics(self) -> Mapping[str, float]:
        """Return the sums of the replicas' counters, a few seconds old."""
        return self._metrics

    async def close(self) -> None:
        """Close the engines and end the actors."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not ray.is_initialized():
            return
        closing = (ask(actor.close.remote(), _CLOSE_S, "closing a replica") for actor in self._actors)
        for result in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(result, Exception):
                _LOG.warning("a replica of the engine did not close as it should: %s", result)
        for actor in self._actors:
            ray.kill(actor)

    @property
    def _started(self) -> CalledReplicas:
        if self._called is None:
            raise InferenceError("the inference backend is not started: await start(model) first")
        return self._called

    def _start_one(self, actor: "ActorHandle[Any]") -> Awaitable[bytes]:
        return ask(actor.start.remote(self._model, self._weights), self._settings.start_timeout, "loading the model")

    async def _update_one(self, actor: "ActorHandle[Any]", weights: WeightUpdate) -> None:
        deadline = time.monotonic() + self._settings.request_timeout
        what = f"weights of version {weights.version}"
        while True:
            try:
                await ask(actor.update_weights.remote(weights), max(deadline - time.monotonic(), 0.0), what)
                return
            except ActorLost as error:
                if time.monotonic() > deadline:
                    raise InferenceError(
                        f"a replica of the engine did not come back for new weights: {error}"
                    ) from error
            except NoAnswer as error:
                raise InferenceError(f"{error}; the bound is request_timeout of the execution backend") from error
            await asyncio.sleep(RAY_PAUSE_S)

    async def _watch(self, actor: "ActorHandle[Any]") -> None:
        """Start a replica again whenever it has died."""
        while True:
            with contextlib.suppress(ActorLost):
                await ask(actor.watch.remote(), None, "watching a replica of the engine")
            try:
                await self._revive(actor)
            except TumblerError as error:
                _LOG.error("a replica of the engine has died and cannot be started again: %s", error)
                return

    async def _revive(self, actor: "ActorHandle[Any]") -> None:
        deadline = time.monotonic() + self._settings.start_timeout
        while True:
            try:
                await self._start_one(actor)
                return
            except ActorLost:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(RAY_PAUSE_S)

    async def _refresh(self) -> None:
        while True:
            asked = (ask(actor.metrics.remote(), _CLOSE_S, "metrics") for actor in self._actors)
            told = await asyncio.gather(*asked, return_exceptions=True)
            sums = Counter[str]()
            for each in told:
                if isinstance(each, dict):
                    sums.update(each)
            self._metrics = dict(sums)
            await asyncio.sleep(_METRICS_S)


def _absolute(folder: Path) -> str:
    """Return where the folder is for processes with another working directory."""
    return str(folder.resolve())
