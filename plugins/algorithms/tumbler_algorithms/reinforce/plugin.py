"""Registers the algorithm `reinforce`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import AlgorithmSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.algorithm import Algorithm


def _load() -> "type[Algorithm]":
    from tumbler_algorithms.reinforce.algorithm import REINFORCE

    return REINFORCE


def _config() -> "type[Settings]":
    from tumbler_algorithms.reinforce.settings import REINFORCESettings

    return REINFORCESettings


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    """Provide REINFORCE."""
    return [
        AlgorithmSpec(
            name="reinforce",
            summary="Policy gradient with a baseline: REINFORCE, RLOO (arXiv 2402.14740), REINFORCE++ (2501.03262).",
            load=_load,
            config=_config,
            extra="train",
            needs=("training", "inference", "execution"),
        )
    ]
