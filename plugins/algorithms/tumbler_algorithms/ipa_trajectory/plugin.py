"""Registers the algorithm `ipa-trajectory`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import AlgorithmSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.algorithm import Algorithm


def _load() -> "type[Algorithm]":
    from tumbler_algorithms.ipa_trajectory.algorithm import TrajectoryIPA

    return TrajectoryIPA


def _config() -> "type[Settings]":
    from tumbler_algorithms.ipa_trajectory.settings import TrajectoryIPASettings

    return TrajectoryIPASettings


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    """Provide trajectory-level IPA."""
    return [
        AlgorithmSpec(
            name="ipa-trajectory",
            summary="IPA's trajectory-level baseline, for comparison (arXiv 2512.24873, Eq. 4-6).",
            load=_load,
            config=_config,
            extra="train",
            needs=("training", "inference", "execution"),
        )
    ]
