"""The engine's thread: it steps while there is work, and changes weights when nothing is in progress."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeAlias

from tumbler_backends.inference.vllm.server.engine import Ask, Engine, LoadEngine, Piece

__all__ = ["EngineLoop", "Order"]

Answer: TypeAlias = dict[str, object]

_LOGGER = logging.getLogger(__name__)
_SCORED = 16
"""Tokens of the sequence whose score must change with the weights."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """New weights to put in."""

    path: str
    version: int
    drain: bool
    """Whether replies in progress are finished first; otherwise they are broken off."""
    canary: Sequence[int]
    """A sequence whose score under the new weights is wanted; may be empty."""


@dataclass
class _Reply:
    ask: Ask
    future: "Future[Answer]"
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    cached: int = 0


class EngineLoop:
    """Owns the engine."""

    def __init__(self, load: LoadEngine, model: str, settings: Mapping[str, object]) -> None:
        """Begin to load the model as version 0; `started` tells when that is done, `ended` when it failed."""
        self.started: Future[None] = Future()
        self.ended: Future[None] = Future()
        self.version = 0
        self._load = load
        self._model = model
        self._settings = settings
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._waiting: list[_Reply] = []
        self._replies: dict[str, _Reply] = {}
        self._orders: list[tuple[Order, Future[Answer]]] = []
        self._sums: Mapping[str, float] = {}
        self._score: list[float] = []
        self._broken = ""
        self._tokens_sampled = 0
        self._engine: Engine
        self._thread = Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def generate(self, ask: Ask) -> "Future[Answer]":
        """Have a request served."""
        future: Future[Answer] = Future()
        self._commands.put(lambda: self._waiting.append(_Reply(ask, future)))
        return future

    def cancel(self, request: str) -> None:
        """Forget a request, wherever it is."""
        self._commands.put(lambda: self._cancel(request))

    def update(self, order: Order) -> "Future[Answer]":
        """Have the weights changed."""
        future: Future[Answer] = Future()
        self._commands.put(lambda: self._orders.append((order, future)))
        return future

    def status(self) -> Answer:
        """Return what is served, and how much has been."""
        return {
            "version": self.version,
            "in_progress": len(self._replies),
            "tokens_sampled": self._tokens_sampled,
        }

    def _run(self) -> None:
        try:
            self._engine = self._load(self._model, self._settings)
            self._score = self._engine.score(self._probe())
            self.started.set_result(None)
            while True:
                self._take_commands()
                self._change_weights()
                self._admit()
                if self._replies:
                    self._step()
        except BaseException as error:
            _LOGGER.exception("the engine failed")
            for reply in [*self._replies.values(), *self._waiting]:
                _fail(reply.future, error)
            for _, future in self._orders:
                _fail(future, error)
            (self.started if not self.started.done() else self.ended).set_exception(error)

    def _take_commands(self) -> None:
        idle = not (self._replies or self._waiting or self._orders)
        try:
            self._commands.get(block=idle)()
            while True:
                self._commands.get_nowait()()
        except Empty:
            return

    def _cancel(self, request: str) -> None:
        self._waiting = [reply for reply in self._waiting if reply.ask.id != request]
        if self._replies.pop(request, None) is not None:
            self._engine.abort([request])

    def _admit(self) -> None:
        while self._waiting and not self._orders:
            reply = self._waiting.pop(0)
            try:
                if self._broken:
                    raise RuntimeError(self._broken)
                self._engine.add(reply.ask)
            except (ValueError, TypeError, RuntimeError) as error:
                _fail(reply.future, error)
                continue
            self._replies[reply.ask.id] = reply

    def _step(self) -> None:
        for piece in self._engine.step():
            reply = self._replies.get(piece.id)
            if reply is not None:
                self._grow(reply, piece)

    def _grow(self, reply: _Reply, piece: Piece) -> None:
        self._tokens_sampled += len(piece.token_ids)
        reply.token_ids.extend(piece.token_ids)
        reply.logprobs.extend(piece.logprobs)
        reply.cached = max(reply.cached, piece.cached_tokens)
        if piece.finish_reason:
            self._finish(reply, piece.finish_reason)

    def _finish(self, reply: _Reply, reason: str) -> None:
        del self._replies[reply.ask.id]
        answer: Answer = {
            "token_ids": reply.token_ids,
            "logprobs": reply.logprobs,
            "finish_reason": reason,
            "cached_tokens": reply.cached,
            "version": self.version,
        }
        _resolve(reply.future, answer)

    def _change_weights(self) -> None:
        while self._orders:
            order, future = self._orders[0]
            if order.drain and self._replies:
                return
            self._engine.abort(list(self._replies))
            for reply in list(self._replies.values()):
                self._finish(reply, "abort")
            try:
                _resolve(future, self._put(order))
                self._broken = ""
            except Exception as error:  # guards against what an engine's loader raises
                _LOGGER.exception("weights of version %d could not be loaded", order.version)
                self._broken = f"weights of version {order.version} could be loaded in part only: {error}"
                _fail(future, RuntimeError(self._broken))
            del self._orders[0]

    def _put(self, order: Order) -> Answer:
        loaded = self._engine.load(order.path)
        problems = list(loaded.problems)
        score = self._engine.score(self._probe())
        changed = sum(self._sums.get(name) != value for name, value in loaded.sums.items())
        if self._sums and changed > len(loaded.sums) / 2 and score == self._score:
            problems.append(f"{changed} tensors changed, and the engine answers a probe exactly as before")
        self._sums, self._score, self.version = loaded.sums, score, order.version
        return {
            "version": self.version,
            "problems": problems,
            "unverified": list(loaded.unverified),
            "canary": self._engine.score(order.canary) if order.canary else [],
        }

    def _probe(self) -> list[int]:
        length = min(_SCORED, self._engine.context - 1)
        return [(7 * position + 3) % self._engine.vocabulary for position in range(length)]


def _resolve(future: "Future[Answer]", answer: Answer) -> None:
    try:
        future.set_result(answer)
    except InvalidStateError:
        return  # whoever asked has gone


def _fail(future: "Future[Answer]", error: BaseException) -> None:
    try:
        future.set_exception(error)
    except InvalidStateError:
        return  # whoever asked has gone
