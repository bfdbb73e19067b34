"""The model that is served: its runner, cache, limits and stop tokens."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tumbler.contracts.inference import GenerateRequest, WeightUpdate
from tumbler.errors import ContextOverflowError, InferenceError
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
    ) -> None:
        """Serve the model, its cache bounded by `cache_bytes`, its matrices rounded to `weight_bits` unless 0."""
        self._model = model
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
        if settings.threads:
            torch.set_num_threads(settings.threads)
        model = load_model(folder, dtype=settings.dtype, device=settings.device)
        ends = model.generation_config.eos_token_id if model.generation_config else None
        ends = ends if isinstance(ends, list) else [ends] if ends is not None else []
        return cls(
            model,
            stop_tokens=[*stop_tokens, *ends],
            context=context,
            cache_bytes=settings.cache_bytes,
            weight_bits=settings.weight_bits,
        )

    def put_weights(self, update: WeightUpdate) -> None:
        """Copy new weights into the model, all or none."""
        put_weights(self._model, update, bits=self._weight_bits)

    def room(self, request: GenerateRequest) -> int:
        """Return how many tokens prompt and longest reply take, the reply cut at the model's context.

        Raises `ContextOverflowError` when the prompt leaves no room for a reply, and `InferenceError` when
        the request cannot be served at all.
        """
        prompt, rule = len(request.token_ids), request.sampling
        if prompt == 0 or not 0 <= min(request.token_ids) <= max(request.token_ids) < self._vocabulary:
            raise InferenceError(
                f"a prompt must hold token ids in [0, {self._vocabulary}); got {prompt} ids. "
                "Was it tokenised with another model's tokenizer?"
            )
        if rule.max_tokens < 1 or rule.temperature < 0 or not 0 < rule.top_p <= 1 or rule.top_k < 0:
            raise InferenceError(
                f"cannot sample with {rule}: expected max_tokens >= 1, temperature >= 0, 0 < top_p <= 1, top_k >= 0"
            )
        if prompt >= self._context:
            raise ContextOverflowError(
                f"the prompt has {prompt} tokens and the model's context {self._context}: no room for a reply"
            )
        room = min(prompt + rule.max_tokens, self._context)
        if room > self.pool.capacity:
            raise InferenceError(
                f"a request of {room} tokens takes {room * self._token_bytes} bytes of cache, "
                f"but cache_bytes is {self._cache_bytes}; raise it in the backend's settings"
            )
        return room
