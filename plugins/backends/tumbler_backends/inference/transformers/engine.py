"""Continuous batching: each step computes one token of every reply in progress, and a part of new prompts.

Single-threaded and without a clock; the worker calls `step` for as long as it says that there is work.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from random import Random
from time import perf_counter

import torch

from tumbler.contracts.inference import FinishReason, GenerateRequest, Generation, WeightUpdate
from tumbler.errors import InferenceError
from tumbler_backends.inference.counters import Counters
from tumbler_backends.inference.transformers.prefixes import PrefixCache
from tumbler_backends.inference.transformers.replies import Asked, Reply, reject, resolve
from tumbler_backends.inference.transformers.runner import Stretch
from tumbler_backends.inference.transformers.sampling import sample
from tumbler_backends.inference.transformers.served import ServedModel
from tumbler_backends.inference.transformers.settings import OnUpdate

__all__ = ["Engine"]


@dataclass
class EngineCounters(Counters):
    """Running totals."""

    steps: int = 0
    """Forward passes."""
    replies_resumed: int = 0
    """Times that a reply in progress went on under new weights."""
    updates: int = 0
    seconds_updating: float = 0.0
    """In which weights were put in and checked."""


class Engine:
    """Serves requests with one model."""

    def __init__(
        self, served: ServedModel, *, max_batch: int, prefill_chunk: int, on_update: OnUpdate = "abort"
    ) -> None:
        """Serve the model as policy version 0."""
        self.version = 0
        self.counters = EngineCounters()
        self._served = served
        self._cache = PrefixCache(served.pool, served.runner)
        self._max_batch = max_batch
        self._prefill_chunk = prefill_chunk
        self._on_update = on_update
        self._waiting: deque[Asked] = deque()
        self._replies: list[Reply] = []
        self._updates: deque[tuple[WeightUpdate, Future[None]]] = deque()
        self._wrong: InferenceError | None = None
        """Why nobody is served; None as long as the weights are those that were sent."""

    def add(self, request: GenerateRequest, future: "Future[Generation]") -> None:
        """Take a request; its future gets the reply, or the error if it cannot be served."""
        self.counters.requests += 1
        try:
            room = self._served.room(request)
        except Exception as error:  # noqa: BLE001  # guards against ids that are no integers; the thread must go on
            reject(future, error)
            return
        self._waiting.append(Asked(request, room, future, Random(request.seed), list(request.token_ids)))

    def update(self, update: WeightUpdate, future: "Future[None]") -> None:
        """Take new weights, which waiting requests get, and replies in progress unless they are finished first."""
        self._updates.append((update, future))

    def release(self, session: str) -> None:
        """Forget what is cached for the session, now or when its request in progress is done."""
        self._cache.release(session)
        for asked in (*self._waiting, *(reply.asked for reply in self._replies)):
            if asked.request.session == session:
                asked.keeps_slot = False

    def fail(self, error: Exception) -> None:
        """Fail every request and every update, and forget all slots."""
        self._fail_requests(error)
        while self._updates:
            reject(self._updates.popleft()[1], error)

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
        for reply in [reply for reply in self._replies if reply.asked.future.cancelled()]:
            self._leave(reply)
        if any(waiting.future.cancelled() for waiting in self._waiting):
            self._waiting = deque(waiting for waiting in self._waiting if not waiting.future.cancelled())

    def _take_new_weights(self) -> None:
        while self._updates and not (self._on_update == "drain" and self._replies):
            begun = perf_counter()
            update, future = self._updates.popleft()
            try:
                self._put_weights(update)
            except Exception as error:  # noqa: BLE001  # guards against whoever hands over the tensors
                reject(future, error)
                continue
            self.counters.updates += 1
            self.counters.seconds_updating += perf_counter() - begun
            resolve(future, None)

    def _put_weights(self, update: WeightUpdate) -> None:
        """Put in new weights and check them; those of an update that does not fit stay the old ones."""
        self._served.put_weights(update)
        former, self.version = self.version, update.version
        if self._on_update == "keep" and self._replies:
            self._keep_replies(former)
        else:
            self._break_off_replies()
        self._wrong = InferenceError(f"weights of version {update.version} could not be checked; nobody is served")
        self._wrong = self._check(update)
        if self._wrong is not None:
            raise self._wrong

    def _check(self, update: WeightUpdate) -> InferenceError | None:
        problem = self._served.canary_problem(update.canary) if update.canary else ""
        if not problem:
            return None
        return InferenceError(
            f"the inference engine does not serve the weights of version {update.version} that it was sent: {problem}. "
            "A tensor may have been left out or changed on the way. Nobody is served before an update that is right: "
            "going on would train on replies of another policy."
        )

    def _break_off_replies(self) -> None:
        """Void the cache, and have replies in progress wait for a slot before all others, in their order."""
        broken_off = [reply.asked for reply in self._replies]
        for reply in self._replies:
            self._cache.drop(reply.slot)
        self._replies = []
        self._cache.forget()
        self._waiting.extendleft(reversed(broken_off))
        self.counters.replies_resumed += len(broken_off)

    def _keep_replies(self, former: int) -> None:
        """Void the cache but for what replies in progress hold; nobody but them may build upon that."""
        for reply in self._replies:
            reply.stale = True
            reply.asked.keeps_slot = False
            if reply.asked.version is None and reply.slot.token_ids:
                reply.asked.version = former
        self._cache.forget_idle()
        self.counters.replies_resumed += len(self._replies)

    def _fail_requests(self, error: Exception) -> None:
        for reply in list(self._replies):
            self._drop(reply, error)
        while self._waiting:
            reject(self._waiting.popleft().future, error)

    def _admit(self) -> None:
        """Give slots to waiting requests, first come first served but for those that wait for a prefix."""
        if self._wrong is not None:
            self._fail_requests(self._wrong)
        held: deque[Asked] = deque()
        while self._waiting and not self._updates and len(self._replies) < self._max_batch:
            asked = self._waiting.popleft()
            slot = self._cache.place(asked.request.session, asked.token_ids, asked.room, self._replies)
            if slot is None:
                held.append(asked)
                continue
            cached = len(slot.token_ids)
            self.counters.tokens_cached += cached
            asked.cached = cached if asked.cached is None else asked.cached
            self._replies.append(Reply(asked.token_ids, slot, asked=asked))
        self._waiting = held + self._waiting

    def _plan(self) -> list[tuple[Reply, Stretch]]:
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

    def _compute(self, planned: Sequence[tuple[Reply, Stretch]]) -> None:
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

    def _draw(self, logits: torch.Tensor, drawing: Sequence[Reply]) -> tuple[list[int], list[float]]:
        if not drawing:
            return [], []
        asked = [reply.asked for reply in drawing]
        return sample(logits, [each.request.sampling for each in asked], [each.random.random() for each in asked])

    def _extend(self, reply: Reply, token: int, logprob: float) -> None:
        asked = reply.asked
        if not math.isfinite(logprob):
            self._drop(reply, InferenceError("the model's logits are not finite: its weights may have diverged"))
            return
        asked.token_ids.append(token)
        asked.logprobs.append(logprob)
        asked.version = self.version if asked.version is None else asked.version
        if token in self._served.stop_tokens:
            self._finish(reply, "stop")
        elif len(asked.token_ids) >= asked.room:
            self._finish(reply, "length")

    def _finish(self, reply: Reply, reason: FinishReason) -> None:
        self._leave(reply)
        resolve(reply.asked.future, reply.asked.generation(reason))

    def _leave(self, reply: Reply) -> None:
        self._replies.remove(reply)
        self._cache.leave(reply.asked.request.session if reply.asked.keeps_slot else "", reply.slot)

    def _drop(self, reply: Reply, error: Exception) -> None:
        self._replies.remove(reply)
        self._cache.drop(reply.slot)
        reject(reply.asked.future, error)
