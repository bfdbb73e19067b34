"""What runs in Ray's processes: a worker for episodes, a replica of an engine, the trainer.

Each takes its recipe as bytes, so that the classes in it are looked up only when the paths are set.
"""

import asyncio
import inspect
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import ray

from tumbler.contracts.execution import ComponentRecipe, Engines, RolloutRequest
from tumbler.contracts.inference import GenerateRequest, Generation, InferenceBackend, WeightUpdate
from tumbler.contracts.training import TrainingBackend
from tumbler.errors import InferenceError, RunError
from tumbler_backends.execution.hosting import EpisodeHost
from tumbler_backends.execution.ray.calls import Answer, Calls, answered
from tumbler_backends.execution.ray.weights import store

__all__ = ["InferenceActor", "RolloutActor", "TrainingActor"]


class RolloutActor:
    """Runs episodes."""

    def __init__(self, path: Sequence[str]) -> None:
        """Find what the process that leads the run finds."""
        _extend(path)
        self._host = EpisodeHost()
        self._calls = Calls()

    async def open(self, recipe: bytes, engines: Engines) -> Answer:
        """Open a pickled `WorkerRecipe`."""
        return await answered(self._open(recipe, engines))

    async def run(self, call: str, request: RolloutRequest) -> Answer:
        """Run one episode."""
        return await self._calls.run(call, self._host.run(request))

    async def cancel(self, call: str) -> None:
        """Cancel an episode."""
        self._calls.cancel(call)

    async def close(self) -> Answer:
        """Cancel all episodes and take everything down."""
        return await answered(self._host.close())

    async def _open(self, recipe: bytes, engines: Engines) -> None:
        await self._host.open(pickle.loads(recipe), engines)


class InferenceActor:
    """One replica of an inference backend. Ray may start it again, empty; it serves when it is given the model."""

    def __init__(self, path: Sequence[str], recipe: bytes, start_timeout: float) -> None:
        """Keep a pickled `ComponentRecipe`."""
        _extend(path)
        self._recipe = recipe
        self._start_timeout = start_timeout
        self._engine: InferenceBackend | None = None
        self._started = asyncio.Event()
        self._calls = Calls()

    async def start(self, model: str, weights: WeightUpdate | None) -> Answer:
        """Build the engine and load model and weights, unless that is done; return its tokenizer, pickled."""
        return await answered(self._start(Path(model), weights))

    async def generate(self, call: str, request: GenerateRequest) -> Answer:
        """Return one reply."""
        return await self._calls.run(call, self._generate(request))

    async def cancel(self, call: str) -> None:
        """Cancel a request."""
        self._calls.cancel(call)

    async def release(self, session: str) -> Answer:
        """Forget what is cached for the session."""
        return await answered(self._release(session))

    async def update_weights(self, weights: WeightUpdate) -> Answer:
        """Serve other weights."""
        return await answered(self._update(weights))

    async def ready(self) -> Answer:
        """Return as soon as it serves."""
        return await answered(self._ready())

    async def metrics(self) -> Answer:
        """Return the engine's counters."""
        return Answer(value={} if self._engine is None else dict(self._engine.metrics()))

    async def watch(self) -> Answer:
        """Return never: the call fails when the replica dies."""
        return Answer(value=await asyncio.get_running_loop().create_future())

    async def close(self) -> Answer:
        """Close the engine."""
        return await answered(self._close())

    async def _start(self, model: Path, weights: WeightUpdate | None) -> bytes:
        if self._engine is None:
            _require(model)
            self._engine = engine = cast("InferenceBackend", _component(self._recipe))
            await engine.start(model)
            if weights is not None:
                await engine.update_weights(weights)
            self._started.set()
        engine = await self._ready()
        return pickle.dumps(engine.tokenizer)

    async def _ready(self) -> InferenceBackend:
        try:
            await asyncio.wait_for(self._started.wait(), self._start_timeout)
        except TimeoutError as error:
            raise InferenceError(f"the replica was not started within {self._start_timeout:g} s") from error
        return cast("InferenceBackend", self._engine)

    async def _generate(self, request: GenerateRequest) -> Generation:
        engine = await self._ready()
        return await engine.generate(request)

    async def _release(self, session: str) -> None:
        engine = await self._ready()
        await engine.release(session)

    async def _update(self, weights: WeightUpdate) -> None:
        engine = await self._ready()
        await engine.update_weights(weights)

    async def _close(self) -> None:
        if self._engine is not None:
            await self._engine.close()


class TrainingActor:
    """The trainer."""

    def __init__(self, path: Sequence[str], recipe: bytes) -> None:
        """Keep a pickled `ComponentRecipe`."""
        _extend(path)
        self._recipe = recipe
        self._training: TrainingBackend | None = None

    async def do(self, method: str, *arguments: object, **options: object) -> Answer:
        """Call a method of the training backend; return what it returns, and the policy version after it."""
        return await answered(self._do(method, *arguments, **options))

    async def _do(self, method: str, *arguments: object, **options: object) -> tuple[object, int]:
        if self._training is None:
            self._training = cast("TrainingBackend", _component(self._recipe))
        for folder in arguments if method in ("start", "load") else ():
            _require(cast("Path", folder))
        called = getattr(self._training, method)
        if inspect.iscoroutinefunction(called):
            result = await called(*arguments, **options)
        else:
            result = await asyncio.to_thread(called, *arguments, **options)
        if isinstance(result, WeightUpdate):
            result = await asyncio.to_thread(store, result)
        return result, self._training.version


def _component(recipe: bytes) -> object:
    return cast("ComponentRecipe", pickle.loads(recipe)).build()


def _extend(path: Sequence[str]) -> None:
    sys.path += [folder for folder in path if folder not in sys.path]


def _require(folder: Path) -> None:
    if not folder.is_dir():
        node = ray.get_runtime_context().get_node_id()
        raise RunError(
            f"{folder} is not there on node {node}: engines and trainer read and write the run's folder, so the nodes "
            "that they run on must share its file system with the process that leads the run"
        )
