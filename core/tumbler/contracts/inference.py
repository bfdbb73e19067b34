"""What an inference backend is: token ids in, token ids and log-probabilities out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from tumbler.contracts.values import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = [
    "Canary",
    "FinishReason",
    "GenerateRequest",
    "Generation",
    "InferenceBackend",
    "PlainTokenizer",
    "Sampling",
    "TextTokenizer",
    "WeightUpdate",
]

FinishReason: TypeAlias = Literal["stop", "length", "abort"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to sample. Log-probabilities are those of the distribution actually sampled from."""

    max_tokens: int = 64
    """Tokens of one reply."""
    temperature: float = 1.0
    """0 is greedy; its log-probabilities are those at temperature 1."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps all."""


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """One request for one reply."""

    token_ids: tuple[int, ...]
    sampling: Sampling
    seed: int
    """Equal seeds give equal replies for equal weights and token ids, whatever is batched beside them."""
    session: str = ""
    """Requests of one session mostly extend each other: the key under which a cache may be kept."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One reply. `logprobs[i]` belongs to `token_ids[i]`; the stop token, if sampled, is included."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    policy_version: int
    """Of the weights that sampled the first token: the oldest, where new ones came before the last."""
    cached_tokens: int = 0
    """How many of the request's tokens were not computed again."""


@runtime_checkable
class TextTokenizer(Protocol):
    """Text to token ids and back, and conversations through the model's own chat template."""

    @property
    def fingerprint(self) -> str:
        """Return a hash of vocabulary and chat template."""
        ...

    @property
    def end_of_turn(self) -> int:
        """Return the id that ends an assistant's turn."""
        ...

    @property
    def context_length(self) -> int:
        """Return the longest sequence that the model takes, in tokens."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids of the text, control tokens in it parsed, nothing added."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of the ids without control tokens."""
        ...

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Return the conversation as the chat template writes it."""
        ...


@runtime_checkable
class PlainTokenizer(Protocol):
    """Optional: a tokenizer that can take a control token's spelling for words.

    With it, what stands in a message cannot end its turn or begin another.
    """

    @property
    def control_tokens(self) -> Sequence[str]:
        """Return how the tokens are spelt that `encode` takes for control tokens."""
        ...

    def encode_plain(self, text: str) -> list[int]:
        """Return the ids of the text, every control token in it as the words that spell it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Canary:
    """What new weights answer to a fixed sequence, computed by the training side: shows whether they arrived."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """At temperature 1; `logprobs[i]` is that of `token_ids[i + 1]` after the tokens before it."""
    dtype: str = "float32"
    """The type in which they were computed: how far apart the two sides may be is up to the coarser one's."""


@dataclass(frozen=True, kw_only=True)
class WeightUpdate:
    """New weights: the tensors themselves within one process, or a folder in Hugging Face format."""

    version: int
    tensors: "Callable[[], Iterable[tuple[str, Tensor]]] | None" = None
    folder: Path | None = None
    partial: bool = False
    """Whether `tensors` leaves out weights that are still those of the model that `start` loaded."""
    canary: Canary | None = None
    """Lets the backend check its log-probabilities after the update."""


@runtime_checkable
class InferenceBackend(Protocol):
    """Serves the policy. Requests of concurrent episodes arrive concurrently and may be batched."""

    async def start(self, model: Path) -> None:
        """Load the model folder (Hugging Face format) as policy version 0."""
        ...

    @property
    def tokenizer(self) -> TextTokenizer:
        """Return the model's tokenizer; available after `start`."""
        ...

    async def generate(self, request: GenerateRequest) -> Generation:
        """Return one reply. Cancelling the call gives its place in the batch free."""
        ...

    async def release(self, session: str) -> None:
        """Forget what is cached for the session."""
        ...

    async def update_weights(self, update: WeightUpdate) -> None:
        """Serve the new weights from the next request on, at the latest; caches of the old ones are void.

        Raises `InferenceError`, and serves nobody with them, if the update's canary gets other log-probabilities.
        """
        ...

    def metrics(self) -> Mapping[str, float]:
        """Return counters since `start`: requests, tokens computed, tokens cached, seconds busy."""
        ...

    async def close(self) -> None:
        """Fail what is in flight with `InferenceError` and let go of everything."""
        ...
