"""A stage's key figures in a few words, for the live display and for plain lines alike."""

import math
from collections.abc import Callable

from tumbler_backends.observers.evaluation import evaluations, percent, percent_interval
from tumbler_backends.observers.progress.state import StageProgress

__all__ = ["clock_time", "key_figures", "outcome", "unit"]

_FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("from anchors", "rollout/success_from_anchor", percent),
    ("reward", "rollout/reward", lambda value: f"{value:.2f}"),
    ("loss", "train/loss", lambda value: f"{value:.4g}"),
    ("masked", "ipa/mask_share", lambda value: f"{100 * value:.1f} %"),
    ("turns", "rollout/turns", lambda value: f"{value:.1f}"),
)


def key_figures(stage: StageProgress) -> list[tuple[str, str]]:
    """Return names and values of what is known of a running stage, the most telling first."""
    figures = [] if stage.success is None else [("success", percent(stage.success))]
    if stage.infra_failed:
        figures.append(("infra failures", str(stage.infra_failed)))
    for name, metric, write in _FIGURES:
        value = stage.values.get(metric)
        if value is not None and math.isfinite(value):
            figures.append((name, write(value)))
    if stage.info.kind != "eval" and stage.episodes:
        figures.append(("episodes", str(stage.episodes)))
    return figures


def outcome(stage: StageProgress) -> str:
    """Return what a finished stage came to: an evaluation's rates, or the last loss."""
    found = evaluations([stage.result])
    if found:
        return ", ".join(f"{each.env} {percent_interval(each)}" for each in found)
    return ", ".join(f"{name} {value}" for name, value in key_figures(stage) if name in ("success", "loss"))


def unit(stage: StageProgress) -> str:
    """Return what the stage counts."""
    return "episodes" if stage.info.kind == "eval" else "steps"


def clock_time(seconds: float | None) -> str:
    """Return a time span as 0:03:07, or dashes if it is not known."""
    if seconds is None or not math.isfinite(seconds):
        return "-:--:--"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
