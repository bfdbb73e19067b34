"""Registers the algorithm `cispo`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import AlgorithmSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.algorithm import Algorithm


def _load() -> "type[Algorithm]":
    from tumbler_algorithms.cispo.algorithm import CISPO

    return CISPO


def _config() -> "type[Settings]":
    from tumbler_algorithms.cispo.settings import CISPOSettings

    return CISPOSettings


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    """Provide CISPO."""
    return [
        AlgorithmSpec(
            name="cispo",
            summary="Policy gradient with clipped importance weights that keep every token (arXiv 2506.13585).",
            load=_load,
            config=_config,
            extra="train",
            needs=("training", "inference", "execution"),
        )
    ]
