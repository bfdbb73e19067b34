"""The model that is served: its runner, cache, limits and stop tokens."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tumbler.contracts.inference import Canary, GenerateRequest, WeightUpdate
from tumbler.errors import InferenceError
from tumbler_backends.inference.requests import reply_room
from tumbler_backends.inference.tolerances import canary_problem
from tumbler_backends.inference.transformers.loading import choose_runner, load_model, token_bytes
from tumbler_backends.inference.transformers.rounding import rounded
from tumbler_backends.inference.transformers.settings import TransformersSettings
from tumbler_backends.inference.transformers.slots import SlotPool
from tumbler_backends.inference.transformers.weights import put_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ServedModel"]


class ServedModel:
    """A loaded model with its key-value cache."""

    def __init__(
        self,
        model: "PreTrainedModel",
        *,
        stop_tokens: Iterable[int],
        context: int,
        cache_bytes: int,
        weight_bits: int = 0,
        canary_tolerance: float | None = None,
    ) -> None:
        """Serve the model, its cache bounded by `cache_bytes`, its matrices rounded to `weight_bits` unless 0."""
        self._model = model
        self._canary_tolerance = canary_tolerance
        self._weight_bits = weight_bits
        for parameter in model.parameters():
            parameter.data = rounded(parameter.data, weight_bits)
        self._context = context
        self._cache_bytes = cache_bytes
        self._token_bytes = token_bytes(model)
        self._vocabulary = model.config.get_text_config().vocab_size
        self.stop_tokens = frozenset(stop_tokens)
        self.pool = SlotPool(cache_bytes // self._token_bytes)
        with torch.inference_mode():
            self.runner = choose_runner(model, self.pool.capacity)

    @classmethod
    def load(
        cls, folder: Path, settings: TransformersSettings, *, stop_tokens: Iterable[int], context: int
    ) -> "ServedModel":
        """Load the model folder."""
        model = load_model(folder, dtype=settings.dtype, device=settings.device)
        ends = model.generation_config.eos_token_id if model.generation_config else None
        ends = ends if isinstance(ends, list) else [ends] if ends is not None else []
        return cls(
            model,
            stop_tokens=[*stop_tokens, *ends],
            context=context,
            cache_bytes=settings.cache_bytes,
            weight_bits=settings.weight_bits,
            canary_tolerance=settings.canary_tolerance,
        )

    def put_weights(self, update: WeightUpdate) -> None:
        """Copy new weights into the model, all or none."""
        put_weights(self._model, update, bits=self._weight_bits)

    def canary_problem(self, canary: Canary) -> str:
        """Return what is wrong with the canary's log-probabilities under the served weights; empty if nothing is.

        Weights that are rounded are meant to differ, and not checked.
        """
        if self._weight_bits:
            return ""
        ids = torch.tensor(canary.token_ids, device=self._model.device)
        logprobs = self.runner.score(canary.token_ids)[:-1].float().log_softmax(-1)
        found = logprobs.gather(1, ids[1:, None]).squeeze(1).tolist()
        dtype = str(self._model.dtype).removeprefix("torch.")
        return canary_problem(canary, found, dtype=dtype, tolerance=self._canary_tolerance)

    def room(self, request: GenerateRequest) -> int:
        """Return how many tokens prompt and longest reply take, the reply cut at the model's context.

        Raises `ContextOverflowError` when the prompt leaves no room for a reply, and `InferenceError` when
        the request cannot be served at all.
        """
        prompt = len(request.token_ids)
        room = prompt + reply_room(request, vocabulary=self._vocabulary, context=self._context)
        if room > self.pool.capacity:
            raise InferenceError(
                f"a request of {room} tokens takes {room * self._token_bytes} bytes of cache, "
                f"but cache_bytes is {self._cache_bytes}; raise it in the backend's settings"
            )
        return room
