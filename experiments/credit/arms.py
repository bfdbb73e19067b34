"""The algorithms that are compared, each with the settings its paper gives; learning rates come from tuning."""

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from experiments.study.cells import Arm

__all__ = ["ALGORITHMS", "LEARNING_RATES", "arms", "variant"]

_SAMPLING = "tasks_per_step = 8, group_size = 8, minibatches = 4"
ALGORITHMS: Mapping[str, str] = {
    "ipa": 'use = "ipa", failure_reward = 0.0, anchors = { share = 0.0 }',
    # Discounted by token, as much over a chunk of this policy's usual five tokens as IPA's 0.95 is.
    "ipa-token": 'use = "ipa-token", gamma = 0.99',
    "ipa-token, γ = 0.95": 'use = "ipa-token", gamma = 0.95',
    "ipa-trajectory": 'use = "ipa-trajectory"',
    "grpo": 'use = "grpo"',
    "gspo": 'use = "gspo"',
    "topr": 'use = "topr"',
    "reinforce": 'use = "reinforce"',
}
"""Arm → settings of its algorithm."""

LEARNING_RATES = (2.5e-4, 5e-4, 1e-3)
"""The grid of the tuning: the same few tries for every arm."""

_TUNED = Path(__file__).with_name("tuned.toml")


def variant(name: str, learning_rate: float) -> Arm:
    """Return an arm at a learning rate."""
    return Arm(
        name=name,
        overrides=(
            f"algorithms.arm={{ {ALGORITHMS[name]}, {_SAMPLING} }}",
            f"backends.torch.rl.learning_rate={learning_rate}",
        ),
    )


def arms() -> list[Arm]:
    """Return every arm at the learning rate that the tuning chose; exit if there was none."""
    if not _TUNED.exists():
        sys.exit(f"{_TUNED} is missing: run python -m experiments.credit --tune, and keep there what it prints")
    chosen = tomllib.loads(_TUNED.read_text())["learning_rates"]
    return [variant(name, chosen[name]) for name in ALGORITHMS]
