"""The engines of the process that leads the run, as its workers see them, and how it answers them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from tumbler.contracts.execution import Engines
from tumbler.contracts.inference import GenerateRequest, Generation, InferenceBackend, TextTokenizer, WeightUpdate
from tumbler.errors import InferenceError
from tumbler_backends.execution.local.peer import Handler, Peer, PeerGone

__all__ = ["CalledEngine", "EngineName", "called_engines", "engine_handlers", "tokenizers_of"]

EngineName: TypeAlias = Literal["policy", "teacher"]


class CalledEngine:
    """An `InferenceBackend` in another process; its life and its weights are that process's affair."""

    def __init__(self, peer: Peer, name: EngineName, tokenizer: TextTokenizer) -> None:
        """Call the engine of that name through `peer`."""
        self._peer = peer
        self._name = name
        self._tokenizer = tokenizer
        self._metrics: Mapping[str, float] = {}

    @property
    def tokenizer(self) -> TextTokenizer:
        """Return this process's copy of the tokenizer."""
        return self._tokenizer

    async def start(self, model: Path) -> None:
        """Refuse: it is started."""
        raise InferenceError("a worker for episodes cannot start the engine; it is started where the run is led")

    async def generate(self, request: GenerateRequest) -> Generation:
        """Return one reply; cancelling the call cancels it in the engine."""
        generation: Generation
        try:
            generation, self._metrics = await self._peer.call("generate", self._name, request)
        except PeerGone as error:
            raise InferenceError("the process that leads the run is gone, and the engine with it") from error
        return generation

    async def release(self, session: str) -> None:
        """Forget what is cached for the session."""
        try:
            await self._peer.call("release", self._name, session)
        except PeerGone as error:
            raise InferenceError("the process that leads the run is gone, and the engine with it") from error

    async def update_weights(self, update: WeightUpdate) -> None:
        """Refuse: episodes read the policy."""
        raise InferenceError("a worker for episodes cannot change the weights; that is done where the run is led")

    def metrics(self) -> Mapping[str, float]:
        """Return the engine's counters as of the last reply; none before it."""
        return self._metrics

    async def close(self) -> None:
        """Leave the engine as it is."""


def tokenizers_of(engines: Engines) -> dict[EngineName, TextTokenizer]:
    """Return the tokenizer of each engine, for `called_engines` at the other end."""
    return {name: engine.tokenizer for name, engine in _named(engines).items()}


def called_engines(peer: Peer, tokenizers: Mapping[EngineName, TextTokenizer]) -> Engines:
    """Return what stands for the engines at this end."""
    called = {name: CalledEngine(peer, name, tokenizer) for name, tokenizer in tokenizers.items()}
    return Engines(policy=called["policy"], teacher=called.get("teacher"))


def engine_handlers(engines: Engines) -> dict[str, Handler]:
    """Return what answers the calls of `CalledEngine`."""
    named = _named(engines)

    async def generate(name: EngineName, request: GenerateRequest) -> tuple[Generation, Mapping[str, float]]:
        generation = await named[name].generate(request)
        return generation, dict(named[name].metrics())

    async def release(name: EngineName, session: str) -> None:
        await named[name].release(session)

    return {"generate": generate, "release": release}


def _named(engines: Engines) -> dict[EngineName, InferenceBackend]:
    teacher: dict[EngineName, InferenceBackend] = {} if engines.teacher is None else {"teacher": engines.teacher}
    return {"policy": engines.policy, **teacher}
