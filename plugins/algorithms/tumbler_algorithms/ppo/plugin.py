"""Registers the algorithm `ppo`."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import AlgorithmSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.algorithm import Algorithm


def _load() -> "type[Algorithm]":
    from tumbler_algorithms.ppo.algorithm import PPO

    return PPO


def _config() -> "type[Settings]":
    from tumbler_algorithms.ppo.settings import PPOSettings

    return PPOSettings


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    """Provide PPO."""
    return [
        AlgorithmSpec(
            name="ppo",
            summary="Proximal policy optimisation with a value head and GAE over tokens (arXiv 1707.06347).",
            load=_load,
            config=_config,
            extra="train",
            needs=("training", "inference", "execution"),
        )
    ]
