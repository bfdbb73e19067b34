"""Offers the `trl` training backend; imports nothing heavy."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.training import TrainingBackend

__all__ = ["tumbler_backends"]


def _load() -> "type[TrainingBackend]":
    from tumbler_backends.training.trl.backend import TRLTraining

    return TRLTraining


def _config() -> "type[Settings]":
    from tumbler_backends.training.trl.settings import TRLTrainingSettings

    return TRLTrainingSettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Provide the training backend on TRL."""
    return [
        BackendSpec(
            name="trl",
            summary="Optimizer steps on trajectories with TRL's SFTTrainer and GRPOTrainer, and TRL's own losses.",
            roles=("training",),
            load=_load,
            config=_config,
            extra="trl",
        )
    ]
