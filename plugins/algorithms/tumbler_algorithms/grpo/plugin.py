"""Registers the algorithm `grpo`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import AlgorithmSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.algorithm import Algorithm


def _load() -> "type[Algorithm]":
    from tumbler_algorithms.grpo.algorithm import GRPO

    return GRPO


def _config() -> "type[Settings]":
    from tumbler_algorithms.grpo.settings import GRPOSettings

    return GRPOSettings


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    """Provide GRPO."""
    return [
        AlgorithmSpec(
            name="grpo",
            summary="Group-relative policy optimisation, also as Dr. GRPO and DAPO (arXiv 2402.03300).",
            load=_load,
            config=_config,
            extra="train",
            needs=("training", "inference", "execution"),
        )
    ]
