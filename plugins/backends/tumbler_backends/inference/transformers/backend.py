"""The `transformers` inference backend: an asynchronous face over the engine and its thread."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import torch

from tumbler.contracts.inference import GenerateRequest, Generation, TextTokenizer, WeightUpdate
from tumbler.errors import InferenceError
from tumbler_backends.computing import ComputingThread
from tumbler_backends.inference.transformers.engine import Engine
from tumbler_backends.inference.transformers.served import ServedModel
from tumbler_backends.inference.transformers.settings import TransformersSettings
from tumbler_backends.inference.transformers.tokenizer import HuggingFaceTokenizer

__all__ = ["TransformersInference"]

_CLOSE_SECONDS = 30.0
_Result = TypeVar("_Result")


class TransformersInference:
    """Serves a Hugging Face causal language model in this process.

    Requests of concurrent episodes are computed together, token by token. Keys and values stay cached
    between the turns of a session, and are shared with sessions that begin alike. New weights are put in
    between two tokens, and replies in progress go on under them; see the setting `on_update`.
    """

    def __init__(self, settings: TransformersSettings) -> None:
        """Take the settings; nothing is loaded before `start`."""
        self._settings = settings
        self._engine: Engine | None = None
        self._tokenizer: HuggingFaceTokenizer | None = None
        self._worker: ComputingThread | None = None

    async def start(self, model: Path) -> None:
        """Load the model folder as policy version 0."""
        if self._worker is not None:
            raise InferenceError("the inference backend is started already; build another one for another model")
        self._worker = ComputingThread(
            "inference",
            error=InferenceError,
            processors=self._settings.threads,
            step=self._step,
            stop=self._stop,
        )
        await self._wait(
            self._worker.call(lambda: self._load(model)), self._settings.start_timeout, "loading the model"
        )

    @property
    def tokenizer(self) -> TextTokenizer:
        """Return the model's tokenizer."""
        if self._tokenizer is None:
            raise InferenceError("the inference backend has no tokenizer before `start`")
        return self._tokenizer

    async def generate(self, request: GenerateRequest) -> Generation:
        """Return one reply; cancelling the call gives its place in the batch free."""
        engine, worker = self._started()
        future: Future[Generation] = Future()
        worker.post(lambda: engine.add(request, future))
        return await self._wait(future, self._settings.request_timeout, "a reply")

    async def release(self, session: str) -> None:
        """Forget what is cached for the session."""
        engine, worker = self._started()
        worker.post(lambda: engine.release(session))

    async def update_weights(self, update: WeightUpdate) -> None:
        """Serve the new weights from the next token on, and void the cache of the old ones.

        Raises `InferenceError` if they do not fit, and the old ones stay in use; or if they are not what training
        computes with, and then nobody is served.
        """
        engine, worker = self._started()
        future: Future[None] = Future()
        worker.post(lambda: engine.update(update, future))
        await self._wait(future, self._settings.request_timeout, f"weights of version {update.version}")

    def metrics(self) -> Mapping[str, float]:
        """Return counters since `start`; none before it."""
        return self._engine.metrics() if self._engine else {}

    async def close(self) -> None:
        """Fail what is in flight and end the thread; safe to call twice."""
        if self._worker is not None:
            await asyncio.to_thread(self._worker.close, _CLOSE_SECONDS)

    def _started(self) -> tuple[Engine, ComputingThread]:
        if self._engine is None or self._worker is None:
            raise InferenceError("the inference backend is not started: await start(model) first")
        return self._engine, self._worker

    async def _wait(self, future: "Future[_Result]", seconds: float, what: str) -> _Result:
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise InferenceError(f"{what} took longer than {seconds:g} seconds; the bound is a setting") from error

    def _load(self, folder: Path) -> None:
        settings = self._settings
        tokenizer = HuggingFaceTokenizer(folder)
        stops = [tokenizer.end_of_turn, *tokenizer.end_of_text]
        served = ServedModel.load(folder, settings, stop_tokens=stops, context=tokenizer.context_length)
        self._engine = Engine(
            served,
            max_batch=settings.max_batch,
            prefill_chunk=settings.prefill_chunk,
            on_update=settings.on_update,
        )
        self._tokenizer = tokenizer

    def _step(self) -> bool:
        if self._engine is None:
            return False
        try:
            with torch.inference_mode():
                return self._engine.step()
        except Exception as error:  # noqa: BLE001  # the thread must outlive whatever a model's code raises
            self._engine.fail(InferenceError(f"the inference engine failed: {type(error).__name__}: {error}"))
            return False

    def _stop(self) -> None:
        if self._engine is not None:
            self._engine.fail(InferenceError("the inference backend was closed"))
            self._engine = None
