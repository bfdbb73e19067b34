"""What is taken from a group's rewards before they are credit; knows neither chunk nor tensor."""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

__all__ = ["EPSILON", "Baseline", "centre"]

Baseline: TypeAlias = Literal["none", "mean", "leave-one-out", "whiten"]

EPSILON = 1e-6
"""Added to a deviation before it divides: keeps rewards that differ by rounding alone from being blown up to ±1."""


def centre(rewards: Sequence[float], baseline: Baseline) -> list[float]:
    """Return the rewards less the baseline; where all are equal, or one is alone, exactly 0.

    `mean` takes the group's mean, `leave-one-out` that of the others (RLOO, arXiv 2402.14740), and `whiten`
    divides by the sample's standard deviation after the mean (GRPO, arXiv 2402.03300).
    """
    if baseline == "none":
        return list(rewards)
    if len(rewards) < 2 or min(rewards) == max(rewards):
        return [0.0] * len(rewards)
    total, count = math.fsum(rewards), len(rewards)
    if baseline == "leave-one-out":
        return [reward - (total - reward) / (count - 1) for reward in rewards]
    centred = [reward - total / count for reward in rewards]
    if baseline != "whiten":
        return centred
    scale = math.sqrt(math.fsum(each * each for each in centred) / (count - 1)) + EPSILON
    return [each / scale for each in centred]
