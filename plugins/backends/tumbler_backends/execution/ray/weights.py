"""Weights in Ray's object store: put there once, fetched once by each replica."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ray

from tumbler.contracts.inference import WeightUpdate

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = ["StoredTensors", "store"]


@dataclass(frozen=True, kw_only=True)
class _Packed:
    """A tensor as an array of bytes, which the object store maps into memory without copying it."""

    data: "np.ndarray[Any, np.dtype[np.uint8]]"
    dtype: str
    shape: tuple[int, ...]

    def unpack(self) -> "Tensor":
        import torch

        # The store's memory is read-only, and torch has no such tensors.
        return torch.from_numpy(self.data.copy()).view(getattr(torch, self.dtype)).reshape(self.shape)


@dataclass(frozen=True, kw_only=True)
class StoredTensors:
    """What `WeightUpdate.tensors` is for weights in the object store; can be pickled."""

    reference: "ray.ObjectRef[Any]"

    def __call__(self) -> "Iterator[tuple[str, Tensor]]":
        """Fetch the tensors and yield them by name."""
        packed: dict[str, _Packed] = ray.get(self.reference)
        return ((name, tensor.unpack()) for name, tensor in packed.items())


def store(update: WeightUpdate) -> WeightUpdate:
    """Return the update with its tensors in the object store, so that it can cross processes."""
    if update.tensors is None or isinstance(update.tensors, StoredTensors):
        return update
    packed: dict[str, _Packed] = {}
    seen: dict[tuple[int, str, tuple[int, ...]], _Packed] = {}
    for name, tensor in update.tensors():
        key = (tensor.data_ptr(), str(tensor.dtype), tuple(tensor.shape))
        # Tied weights come under each of their names and are stored once.
        packed[name] = seen[key] if key in seen else seen.setdefault(key, _pack(tensor))
    return replace(update, tensors=StoredTensors(reference=ray.put(packed)))


def _pack(tensor: "Tensor") -> _Packed:
    import torch

    flat = tensor.detach().cpu().contiguous().flatten()
    return _Packed(
        data=flat.view(torch.uint8).numpy(),
        dtype=str(tensor.dtype).removeprefix("torch."),
        shape=tuple(tensor.shape),
    )
