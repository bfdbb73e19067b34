"""What the server wants of an engine: tokens step by step, new weights, and the score of a sequence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

__all__ = ["Ask", "Engine", "LoadEngine", "Loaded", "Piece"]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request for one reply."""

    id: str
    token_ids: Sequence[int]
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    stop_token_ids: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What one step added to one reply."""

    id: str
    token_ids: Sequence[int]
    logprobs: Sequence[float]
    """Of the distribution that was sampled from."""
    finish_reason: str = ""
    """`stop` or `length`; empty as long as the reply goes on."""
    cached_tokens: int = 0
    """Tokens of the prompt that were not computed again."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What became of new weights."""

    problems: Sequence[str] = ()
    """Tensors that the engine does not compute with as they were given."""
    verified: int = 0
    """Tensors that it was seen to hold, or to compute with."""
    unverified: Sequence[str] = ()
    """Tensors for which the check knows no place in the engine."""
    sums: Mapping[str, float] = field(default_factory=dict)
    """One number for each tensor given, which changes with it."""


class Engine(Protocol):
    """One model on one thread. No method is called from any other, nor before another has returned."""

    @property
    def context(self) -> int:
        """Return the longest sequence, in tokens."""
        ...

    @property
    def vocabulary(self) -> int:
        """Return how many token ids there are."""
        ...

    def add(self, ask: Ask) -> None:
        """Take a request; raise `ValueError` for one that cannot be served."""
        ...

    def step(self) -> list[Piece]:
        """Advance the requests."""
        ...

    def abort(self, ids: Sequence[str]) -> None:
        """Forget requests; those that are unknown are ignored."""
        ...

    def load(self, path: str) -> Loaded:
        """Put in the weights of a safetensors file, or of a folder of them. No request is in progress."""
        ...

    def score(self, token_ids: Sequence[int]) -> list[float]:
        """Return the log-probability of each token but the first. No request is in progress."""
        ...


LoadEngine: TypeAlias = Callable[[str, Mapping[str, object]], Engine]
"""Loads the engine for a model folder with the engine's own settings."""
