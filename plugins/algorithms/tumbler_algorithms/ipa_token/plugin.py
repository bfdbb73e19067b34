"""Registers the algorithm `ipa-token`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import AlgorithmSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.algorithm import Algorithm


def _load() -> "type[Algorithm]":
    from tumbler_algorithms.ipa_token.algorithm import TokenIPA

    return TokenIPA


def _config() -> "type[Settings]":
    from tumbler_algorithms.ipa_token.settings import TokenIPASettings

    return TokenIPASettings


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    """Provide token-level IPA."""
    return [
        AlgorithmSpec(
            name="ipa-token",
            summary="IPA with tokens in place of chunks, for comparison (after arXiv 2512.24873).",
            load=_load,
            config=_config,
            extra="train",
            needs=("training", "inference", "execution"),
        )
    ]
