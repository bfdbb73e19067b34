"""Registers the algorithm `gigpo`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import AlgorithmSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.algorithm import Algorithm


def _load() -> "type[Algorithm]":
    from tumbler_algorithms.gigpo.algorithm import GiGPO

    return GiGPO


def _config() -> "type[Settings]":
    from tumbler_algorithms.gigpo.settings import GiGPOSettings

    return GiGPOSettings


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    """Provide GiGPO."""
    return [
        AlgorithmSpec(
            name="gigpo",
            summary="Group-in-group policy optimisation: episodes and equal states compared (arXiv 2505.10978).",
            load=_load,
            config=_config,
            extra="train",
            needs=("training", "inference", "execution"),
        )
    ]
