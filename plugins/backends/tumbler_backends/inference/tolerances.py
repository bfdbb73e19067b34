"""How far two ways to compute one log-probability may be apart, and whether a canary's are. Knows no engine."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Final

from tumbler.contracts.inference import Canary

__all__ = ["CANARY_TOLERANCES", "canary_problem"]

CANARY_TOLERANCES: Final = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.3}
"""In nats for any one of them, by the type of the weights: of two ways to run a model in one engine."""

_MEAN_TOLERANCES: Final = {"float32": 1e-3, "float16": 0.03, "bfloat16": 0.2}
"""In nats for the mean of a canary's. Between float32 and bfloat16 SmolLM2-135M has 0.07, and up to 0.4 for single
tokens; weights that are wrong are so for most of them."""


def canary_problem(canary: Canary, found: Sequence[float], *, dtype: str, tolerance: float | None) -> str:
    """Return what is wrong with the log-probabilities that an engine found for the canary; empty if nothing is.

    Args:
        canary: what training computed.
        found: what the engine computes of it.
        dtype: the engine's.
        tolerance: the most, in nats, by which they may differ on average; None goes by the coarser of the two types.
    """
    if not all(map(math.isfinite, canary.logprobs)):
        return "the canary's own log-probabilities are not finite: the weights have diverged in training"
    allowed = tolerance or max(_MEAN_TOLERANCES.get(each, 0.0) for each in (dtype, canary.dtype))
    gap = _difference(canary, found)
    if gap <= allowed:
        return ""
    return (
        f"the canary's log-probabilities are {gap:.3g} nats off on average where {allowed:g} is "
        "allowed (setting `canary_tolerance`)"
    )


def _difference(canary: Canary, found: Sequence[float]) -> float:
    """Return the mean difference in nats; infinite if the lengths differ or a value is not finite."""
    if len(found) != len(canary.logprobs) or not all(map(math.isfinite, found)):
        return math.inf
    return fmean(abs(ours - theirs) for ours, theirs in zip(canary.logprobs, found, strict=True)) if found else 0.0
