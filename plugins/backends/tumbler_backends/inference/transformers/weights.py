"""Put new weights into a loaded model: all of them, or none."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tumbler.contracts.inference import WeightUpdate
from tumbler.errors import InferenceError
from tumbler_backends.inference.transformers.loading import load_model
from tumbler_backends.inference.transformers.rounding import rounded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["put_weights"]


def put_weights(model: "PreTrainedModel", update: WeightUpdate, *, bits: int = 0) -> None:
    """Copy the update's weights into the model, rounded to `bits` unless that is 0.

    Every parameter must be given, tied ones under either name; only a partial update may leave some as they
    are. Raises `InferenceError`, and leaves the model as it was, if a name is unknown or missing or a shape
    differs.
    """
    buffers = dict(model.named_buffers())
    targets = {**buffers, **dict(model.named_parameters(remove_duplicate=False))}
    given = list(_tensors(model, update))
    problems = [_problem(name, tensor, targets) for name, tensor in given]
    covered = {id(targets[name]) for name, _ in given if name in targets}
    parameters = () if update.partial else model.named_parameters()
    problems += [f"{name} is missing" for name, parameter in parameters if id(parameter) not in covered]
    found = [problem for problem in problems if problem]
    if found:
        more = f" and {len(found) - 10} more" if len(found) > 10 else ""
        raise InferenceError(
            f"weights of version {update.version} do not fit {type(model).__name__}: {'; '.join(found[:10])}{more}. "
            "Expected the names and shapes of the model that `start` loaded; the old weights stay in use."
        )
    with torch.no_grad():
        for name, tensor in given:
            targets[name].copy_(tensor if name in buffers else rounded(tensor, bits))


def _tensors(model: "PreTrainedModel", update: WeightUpdate) -> Iterable[tuple[str, Tensor]]:
    if update.tensors is not None:
        return update.tensors()
    if update.folder is not None:
        dtype = str(model.dtype).removeprefix("torch.")
        return load_model(update.folder, dtype=dtype, device=str(model.device)).named_parameters()
    raise InferenceError(f"the update to version {update.version} brings neither tensors nor a folder")


def _problem(name: str, tensor: Tensor, targets: dict[str, Tensor]) -> str:
    if name not in targets:
        return f"{name} is unknown"
    if targets[name].shape != tensor.shape:
        return f"{name} has shape {list(tensor.shape)} instead of {list(targets[name].shape)}"
    return ""
