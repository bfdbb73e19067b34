"""Offers the `torch` training backend; imports nothing heavy."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.training import TrainingBackend

__all__ = ["tumbler_backends"]


def _load() -> "type[TrainingBackend]":
    from tumbler_backends.training.torch.backend import TorchTraining

    return TorchTraining


def _config() -> "type[Settings]":
    from tumbler_backends.training.torch.settings import TorchTrainingSettings

    return TorchTrainingSettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Provide the PyTorch training backend."""
    return [
        BackendSpec(
            name="torch",
            summary="Optimizer steps on trajectories with PyTorch and Accelerate, for any Hugging Face causal LM.",
            roles=("training",),
            load=_load,
            config=_config,
            extra="train",
        )
    ]
