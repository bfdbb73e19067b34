"""Registers the algorithm `ipa`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import AlgorithmSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.algorithm import Algorithm


def _load() -> "type[Algorithm]":
    from tumbler_algorithms.ipa.algorithm import IPA

    return IPA


def _config() -> "type[Settings]":
    from tumbler_algorithms.ipa.settings import IPASettings

    return IPASettings


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    """Provide IPA."""
    return [
        AlgorithmSpec(
            name="ipa",
            summary="Chunk-level policy optimisation with rollouts from expert anchors (arXiv 2512.24873).",
            load=_load,
            config=_config,
            extra="train",
            needs=("training", "inference", "execution"),
        )
    ]
