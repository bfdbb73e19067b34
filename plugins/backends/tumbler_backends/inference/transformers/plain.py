"""Compute one request after another with transformers' own cache: slower, and right for every causal model."""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache

from tumbler_backends.inference.transformers.runner import Stretch
from tumbler_backends.inference.transformers.slots import Slot

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["PlainRunner"]


class PlainRunner:
    """Runs models whose attention cannot be exchanged, or that keep more than keys and values."""

    def __init__(self, model: "PreTrainedModel") -> None:
        """Use the model with the attention that it was loaded with."""
        self._model = model
        self._caches: WeakKeyDictionary[Slot, DynamicCache] = WeakKeyDictionary()

    def forward(self, stretches: Sequence[Stretch]) -> Tensor:
        """Compute the stretches and return [R, V] logits for the R of them that want theirs, in order."""
        logits = [(self._last_logits(stretch), stretch.wants_logits) for stretch in stretches]
        return torch.stack([row for row, is_wanted in logits if is_wanted] or [logits[0][0][:0]])

    def score(self, token_ids: Sequence[int]) -> Tensor:
        """Return [T, V] logits after each of the sequence's tokens, computed without a cache."""
        logits: Tensor = self._model(torch.tensor([token_ids], device=self._model.device), use_cache=False).logits[0]
        return logits

    def copy(self, source: Slot, target: Slot, tokens: int) -> None:
        """Copy the whole cache of the source; `cut` takes off what is too much."""
        if source in self._caches:
            self._caches[target] = copy.deepcopy(self._caches[source])

    def cut(self, slot: Slot, tokens: int) -> int:
        """Keep the slot's first `tokens`, or nothing where the model's state cannot be taken back."""
        cache = self._caches.get(slot)
        if cache is None:
            return 0
        excess = cache.get_seq_length() - tokens
        if excess > 0 and (any(cache.is_sliding) or not cache.is_croppable):
            del self._caches[slot]
            return 0
        if excess > 0:
            cache.crop(-excess)
        return tokens

    def forget(self) -> None:
        """Let go of all caches."""
        self._caches.clear()

    def _last_logits(self, stretch: Stretch) -> Tensor:
        if stretch.slot not in self._caches:
            self._caches[stretch.slot] = DynamicCache(config=self._model.config)
        output = self._model(
            input_ids=torch.tensor([stretch.token_ids[stretch.start :]], device=self._model.device),
            past_key_values=self._caches[stretch.slot],
            use_cache=True,
        )
        logits: Tensor = output.logits[0, -1]
        return logits
