"""Registers the algorithm `topr`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import AlgorithmSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.algorithm import Algorithm


def _load() -> "type[Algorithm]":
    from tumbler_algorithms.topr.algorithm import TOPR

    return TOPR


def _config() -> "type[Settings]":
    from tumbler_algorithms.topr.settings import TOPRSettings

    return TOPRSettings


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    """Provide TOPR."""
    return [
        AlgorithmSpec(
            name="topr",
            summary="Tapered off-policy REINFORCE: only what failed is weighted by its ratio (arXiv 2503.14286).",
            load=_load,
            config=_config,
            extra="train",
            needs=("training", "inference", "execution"),
        )
    ]
