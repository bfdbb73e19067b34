"""What goes between a worker and its owner: calls by files that all workers read, answers by a pipe of each."""

import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tumbler.contracts.inference import WeightUpdate
from tumbler.errors import RunError, TumblerError

__all__ = ["Answer", "Call", "pack_error", "read_call", "read_weights", "write_call", "write_weights"]


@dataclass(frozen=True, kw_only=True)
class Call:
    """A method of the trainer, to be called in every worker."""

    method: str
    arguments: tuple[Any, ...] = ()
    named: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a call; `result` is the leader's alone."""

    version: int
    result: Any = None
    error: Exception | None = None


def write_call(file: Path, call: Call) -> None:
    """Write a call; raise `RunError` if it carries what other processes cannot be given, or there is no room for it."""
    try:
        packed = pickle.dumps(call, protocol=pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise RunError(
            f"what {call.method} was called with cannot be handed to worker processes: {error}. Classes of algorithms "
            "must be found by import, at the top of a module, and hold plain values; or set processes = 1"
        ) from error
    with _writing(file):
        file.write_bytes(packed)


def read_call(file: Path) -> Call:
    """Return what `write_call` wrote; the file is the owner's own."""
    call = pickle.loads(file.read_bytes())
    assert isinstance(call, Call), "nobody else writes there"
    return call


def pack_error(error: Exception) -> Exception:
    """Return an error as it can be handed over: as it is if it is one of Tumbler's own, else told by a `RunError`."""
    if isinstance(error, TumblerError):
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # noqa: BLE001  # whatever an error's own constructor raises
            return RunError(str(error))
        return error
    return RunError(f"{type(error).__name__}: {error}")


def write_weights(file: Path, update: WeightUpdate) -> WeightUpdate:
    """Write an update's tensors and return the update without them."""
    assert update.tensors is not None, "trainers publish tensors"
    tensors = {name: tensor.detach().cpu() for name, tensor in update.tensors()}
    with _writing(file):
        torch.save(tensors, file)
    return replace(update, tensors=None)


def read_weights(file: Path, update: WeightUpdate) -> WeightUpdate:
    """Return the update with the tensors that were written, mapped from the file, which is gone then."""
    tensors: dict[str, Tensor] = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    # What is mapped stays until the last tensor is gone.
    file.unlink()
    return replace(update, tensors=tensors.items)


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Tell of a file that cannot be written by a `RunError`."""
    try:
        yield
    # PyTorch tells of a disk that is full by a plain RuntimeError.
    except (OSError, RuntimeError) as error:
        free = shutil.disk_usage(file.parent).free
        raise RunError(
            f"{file}, by which the training processes speak with the run, could not be written: {error} "
            f"({free >> 10} KiB are free there; make room)"
        ) from error
