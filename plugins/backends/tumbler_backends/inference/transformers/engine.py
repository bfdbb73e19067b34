"""Continuous batching: each step computes one token of every reply in progress, and a part of new prompts.

Single-threaded and without a clock; the worker calls `step` for as long as it says that there is work.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from random import Random
from time import perf_counter
from typing import TypeVar

import torch

from tumbler.contracts.inference import FinishReason, GenerateRequest, Generation, WeightUpdate
from tumbler.errors import InferenceError, TumblerError
from tumbler_backends.inference.transformers.counters import Counters
from tumbler_backends.inference.transformers.prefixes import PrefixCache, Tenant
from tumbler_backends.inference.transformers.runner import Stretch
from tumbler_backends.inference.transformers.sampling import sample
from tumbler_backends.inference.transformers.served import ServedModel

__all__ = ["Engine"]

_Result = TypeVar("_Result")


@dataclass(eq=False)
class _Waiting:
    """A request that has no slot yet."""

    request: GenerateRequest
    token_ids: list[int]
    room: int
    """Tokens of prompt and longest reply."""
    future: "Future[Generation]"


@dataclass(eq=False)
class _Reply(Tenant):
    """A request in progress."""

    request: GenerateRequest
    future: "Future[Generation]"
    room: int
    cached: int
    random: Random
    logprobs: list[float] = field(default_factory=list)
    keeps_slot: bool = True

    @property
    def pending(self) -> int:
        """Return how many tokens are to be computed before the next one can be drawn."""
        return len(self.token_ids) - len(self.slot.token_ids)


class Engine:
    """Serves requests with one model."""

    def __init__(self, served: ServedModel, *, max_batch: int, prefill_chunk: int) -> None:
        """Serve the model as policy version 0."""
        self.version = 0
        self.counters = Counters()
        self._served = served
        self._cache = PrefixCache(served.pool, served.runner)
        self._max_batch = max_batch
        self._prefill_chunk = prefill_chunk
        self._waiting: deque[_Waiting] = deque()
        self._replies: list[_Reply] = []
        self._updates: deque[tuple[WeightUpdate, Future[None]]] = deque()

    def add(self, request: GenerateRequest, future: "Future[Generation]") -> None:
        """Take a request; its future gets the reply, or the error if it cannot be served."""
        self.counters.requests += 1
        try:
            room = self._served.room(request)
        except Exception as error:  # noqa: BLE001  # guards against ids that are no integers; the thread must go on
            _reject(future, error)
            return
        self._waiting.append(_Waiting(request, list(request.token_ids), room, future))

    def update(self, update: WeightUpdate, future: "Future[None]") -> None:
        """Take new weights: replies in progress are finished with the old ones, waiting ones get the new."""
        self._updates.append((update, future))

    def release(self, session: str) -> None:
        """Forget what is cached for the session, now or when its request in progress is done."""
        self._cache.release(session)
        for reply in self._replies:
            if reply.request.session == session:
                reply.keeps_slot = False

    def fail(self, error: Exception) -> None:
        """Fail every request and every update, and forget all slots."""
        for reply in list(self._replies):
            self._drop(reply, error)
        while self._waiting:
            _reject(self._waiting.popleft().future, error)
        while self._updates:
            _reject(self._updates.popleft()[1], error)

    def metrics(self) -> Mapping[str, float]:
        """Return the counters, and how many tokens of the cache are reserved."""
        pool = self._served.pool
        return {
            **self.counters.as_mapping(),
            "cache_tokens": float(pool.used),
            "cache_evictions": float(pool.evictions),
        }

    def step(self) -> bool:
        """Advance all requests by one step and tell whether anything is left to do."""
        begun = perf_counter()
        self._drop_cancelled()
        self._take_new_weights()
        self._admit()
        planned = self._plan()
        if planned:
            self.counters.steps += 1
            self._compute(planned)
        self.counters.seconds_busy += perf_counter() - begun
        return bool(self._replies or self._waiting or self._updates)

    def _drop_cancelled(self) -> None:
        for reply in [reply for reply in self._replies if reply.future.cancelled()]:
            self._leave(reply)
        if any(waiting.future.cancelled() for waiting in self._waiting):
            self._waiting = deque(waiting for waiting in self._waiting if not waiting.future.cancelled())

    def _take_new_weights(self) -> None:
        while self._updates and not self._replies:
            update, future = self._updates.popleft()
            try:
                self._served.put_weights(update)
            except Exception as error:  # noqa: BLE001  # guards against whoever hands over the tensors
                _reject(future, error)
                continue
            self._cache.forget()
            self.version = update.version
            _resolve(future, None)

    def _admit(self) -> None:
        """Give slots to waiting requests, first come first served but for those that wait for a prefix."""
        held: deque[_Waiting] = deque()
        while self._waiting and not self._updates and len(self._replies) < self._max_batch:
            waiting = self._waiting.popleft()
            slot = self._cache.place(waiting.request.session, waiting.token_ids, waiting.room, self._replies)
            if slot is None:
                held.append(waiting)
                continue
            cached = len(slot.token_ids)
            self.counters.tokens_cached += cached
            random = Random(waiting.request.seed)
            self._replies.append(
                _Reply(waiting.token_ids, slot, waiting.request, waiting.future, waiting.room, cached, random)
            )
        self._waiting = held + self._waiting

    def _plan(self) -> list[tuple[_Reply, Stretch]]:
        """Choose what to compute: one token for each reply, and prompts up to the chunk's size."""
        planned = []
        budget = self._prefill_chunk
        for reply in self._replies:
            pending = reply.pending
            new = 1 if pending == 1 else min(pending, budget)
            if new == 0:
                continue
            budget -= new if pending > 1 else 0
            start = len(reply.slot.token_ids)
            stretch = Stretch(reply.slot, reply.token_ids[: start + new], start, wants_logits=new == pending)
            planned.append((reply, stretch))
        return planned

    def _compute(self, planned: Sequence[tuple[_Reply, Stretch]]) -> None:
        drawing = [reply for reply, stretch in planned if stretch.wants_logits]
        try:
            logits = self._served.runner.forward([stretch for _, stretch in planned])
            tokens, logprobs = self._draw(logits, drawing)
        except Exception as error:  # noqa: BLE001  # guards against the model's own code and memory running out
            failure = InferenceError(f"the model failed on a batch of {len(planned)}: {type(error).__name__}: {error}")
            failure.__cause__ = error
            for reply, _ in planned:
                self._drop(reply, failure)
            return
        for reply, stretch in planned:
            reply.slot.token_ids += stretch.token_ids[stretch.start :]
            self.counters.tokens_computed += len(stretch.token_ids) - stretch.start
        self.counters.tokens_sampled += len(drawing)
        for reply, token, logprob in zip(drawing, tokens, logprobs, strict=True):
            self._extend(reply, token, logprob)

    def _draw(self, logits: torch.Tensor, drawing: Sequence[_Reply]) -> tuple[list[int], list[float]]:
        if not drawing:
            return [], []
        return sample(
            logits, [reply.request.sampling for reply in drawing], [reply.random.random() for reply in drawing]
        )

    def _extend(self, reply: _Reply, token: int, logprob: float) -> None:
        if not math.isfinite(logprob):
            self._drop(reply, InferenceError("the model's logits are not finite: its weights may have diverged"))
            return
        reply.token_ids.append(token)
        reply.logprobs.append(logprob)
        if token in self._served.stop_tokens:
            self._finish(reply, "stop")
        elif len(reply.token_ids) >= reply.room:
            self._finish(reply, "length")

    def _finish(self, reply: _Reply, reason: FinishReason) -> None:
        self._leave(reply)
        generation = Generation(
            token_ids=tuple(reply.token_ids[len(reply.request.token_ids) :]),
            logprobs=tuple(reply.logprobs),
            finish_reason=reason,
            policy_version=self.version,
            cached_tokens=reply.cached,
        )
        _resolve(reply.future, generation)

    def _leave(self, reply: _Reply) -> None:
        self._replies.remove(reply)
        self._cache.leave(reply.request.session if reply.keeps_slot else "", reply.slot)

    def _drop(self, reply: _Reply, error: Exception) -> None:
        self._replies.remove(reply)
        self._cache.drop(reply.slot)
        _reject(reply.future, error)


def _resolve(future: "Future[_Result]", result: _Result) -> None:
    try:
        future.set_result(result)
    except InvalidStateError:
        return  # cancelled by the waiting side in this very moment


def _reject(future: "Future[_Result]", error: Exception) -> None:
    failure: Exception = error
    if not isinstance(error, TumblerError):
        failure = InferenceError(f"{type(error).__name__}: {error}")
        failure.__cause__ = error
    try:
        future.set_exception(failure)
    except InvalidStateError:
        return
