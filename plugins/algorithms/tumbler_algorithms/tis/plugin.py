"""Registers the algorithm `tis`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import AlgorithmSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.algorithm import Algorithm


def _load() -> "type[Algorithm]":
    from tumbler_algorithms.tis.algorithm import TIS

    return TIS


def _config() -> "type[Settings]":
    from tumbler_algorithms.tis.settings import TISSettings

    return TISSettings


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    """Provide TIS."""
    return [
        AlgorithmSpec(
            name="tis",
            summary="Policy gradient with truncated importance weights (arXiv 1802.01561).",
            load=_load,
            config=_config,
            extra="train",
            needs=("training", "inference", "execution"),
        )
    ]
