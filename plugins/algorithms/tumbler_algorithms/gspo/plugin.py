"""Registers the algorithm `gspo`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import AlgorithmSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.algorithm import Algorithm


def _load() -> "type[Algorithm]":
    from tumbler_algorithms.gspo.algorithm import GSPO

    return GSPO


def _config() -> "type[Settings]":
    from tumbler_algorithms.gspo.settings import GSPOSettings

    return GSPOSettings


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    """Provide GSPO."""
    return [
        AlgorithmSpec(
            name="gspo",
            summary="Group sequence policy optimisation: one clipped ratio for each trajectory (arXiv 2507.18071).",
            load=_load,
            config=_config,
            extra="train",
            needs=("training", "inference", "execution"),
        )
    ]
