"""Intervals and summaries of episodes; knows no stage."""

import math
from collections.abc import Sequence
from statistics import fmean

from tumbler.contracts.algorithm import Group
from tumbler.contracts.values import JSON
from tumbler.rollout.scheduler import Span
from tumbler.trajectory import Trajectory

__all__ = [
    "summarise_anchors",
    "summarise_cuts",
    "summarise_evaluation",
    "summarise_rollouts",
    "wilson_interval",
]

_QUARTERS = 4


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's score interval for a share, at 95 % by default; (0, 1) without trials.

    Source: E. B. Wilson, JASA 22 (1927), 209-212.
    """
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return max(0.0, centre - half), min(1.0, centre + half)


def summarise_evaluation(trajectories: Sequence[Trajectory]) -> dict[str, JSON]:
    """Return the entry of one environment in `results.json`."""
    judged = [each for each in trajectories if each.judged]
    successes = sum(bool(each.success) for each in judged)
    low, high = wilson_interval(successes, len(judged))
    return {
        "episodes": len(judged),
        "successes": successes,
        "success_rate": successes / len(judged) if judged else 0.0,
        "wilson_low": low,
        "wilson_high": high,
        "mean_reward": _mean([each.reward or 0.0 for each in judged]),
        "mean_turns": _mean([len(each.chunks) for each in judged]),
        "mean_tokens": _mean([each.sampled_tokens for each in judged]),
    }


def summarise_rollouts(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Return the `rollout/` and `time/` figures of one training step's trajectories."""
    judged = [each for each in trajectories if each.judged]
    free = [each for each in judged if each.header.anchor is None]
    anchored = [each for each in judged if each.header.anchor is not None]
    values = {
        "rollout/episodes": float(len(judged)),
        "rollout/success": _mean([bool(each.success) for each in judged]),
        "rollout/reward": _mean([each.reward or 0.0 for each in judged]),
        "rollout/turns": _mean([len(each.chunks) for each in judged]),
        "rollout/tokens": _mean([each.sampled_tokens for each in judged]),
        "rollout/errored_share": _mean([chunk.errored for each in judged for chunk in each.chunks if chunk.sampled]),
        "rollout/truncated": float(sum(each.status == "truncated" for each in judged)),
    }
    if free:
        values["rollout/success_from_start"] = _mean([bool(each.success) for each in free])
    if anchored:
        values["rollout/success_from_anchor"] = _mean([bool(each.success) for each in anchored])
    phases = {phase for each in judged for phase in each.seconds}
    for phase in sorted(phases):
        values[f"time/{phase}_s"] = _mean([each.seconds.get(phase, 0.0) for each in judged])
    return values


def summarise_anchors(groups: Sequence[Group]) -> dict[str, float]:
    """Return the `rollout/` figures by anchor: how many, and success where each quarter of the expert was replayed.

    The first quarter (`q1`) holds anchors with less than a fourth of the expert's chunks before them: those
    rollouts have most left to do. Only the quarters that occur are there.
    """
    outcomes: dict[int, list[bool]] = {}
    for group in groups:
        if group.anchor is not None:
            share = group.anchor.chunk / max(len(group.anchor.expert.chunks), 1)
            quarter = min(int(share * _QUARTERS), _QUARTERS - 1) + 1
            outcomes.setdefault(quarter, []).extend(bool(each.success) for each in group.trajectories)
    values = {"rollout/anchors": float(sum(group.anchor is not None for group in groups))} if outcomes else {}
    for quarter, found in sorted(outcomes.items()):
        values[f"rollout/success_anchor_q{quarter}"] = _mean(found)
        values[f"rollout/episodes_anchor_q{quarter}"] = float(len(found))
    return values


def summarise_cuts(spans: Sequence[Span]) -> dict[str, float]:
    """Return what cutting slow rollouts did: `rollout/cut`, and `rollout/cut_bias`, the mean time of those that
    finished against the mean of all, less one. None where none was cut.

    The mean of all counts one that was cut as one that would have gone on: it is the area under the product-limit
    estimate of what share still runs, up to the longest time seen, and so at most as long as the truth.
    Source: E. L. Kaplan and P. Meier, JASA 53 (1958), 457-481.
    """
    finished = [span.seconds for span in spans if span.finished]
    if not finished or len(finished) == len(spans):
        return {}
    area, share, before = 0.0, 1.0, 0.0
    ordered = sorted(spans, key=lambda span: (span.seconds, not span.finished))
    for index, span in enumerate(ordered):
        area += share * (span.seconds - before)
        before = span.seconds
        share *= 1 - 1 / (len(ordered) - index) if span.finished else 1.0
    return {
        "rollout/cut": float(len(spans) - len(finished)),
        "rollout/cut_bias": fmean(finished) / area - 1 if area else 0.0,
    }


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
