"""Which plots a training stage gets: the known metrics by name, all others by their prefix."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from tumbler_backends.observers.jsonl.journal import StepRecord
from tumbler_backends.observers.report.markup import Markup, element
from tumbler_backends.observers.report.plot import POINT_LIMIT, Series, area_plot, histogram, line_plot
from tumbler_backends.observers.report.scale import figure

__all__ = ["stage_charts"]

_Write = Callable[[float], str]


@dataclass(frozen=True, kw_only=True)
class _Chart:
    """One plot: a title, what it shows, and the metrics in it with their names in the legend."""

    title: str
    note: str
    metrics: Mapping[str, str]
    write: _Write = figure
    floor: float | None = None
    stacked: bool = False


def _seconds(value: float) -> str:
    return f"{figure(value)} s"


def _share(value: float) -> str:
    return f"{figure(round(100 * value, 1))} %"


_GROUPS: Mapping[str, Sequence[_Chart]] = {
    "Rollouts": (
        _Chart(
            title="Success",
            note="share of judged rollouts that solved their task",
            metrics={
                "rollout/success": "success",
                "rollout/success_from_start": "from the start",
                "rollout/success_from_anchor": "from an anchor",
            },
            write=_share,
            floor=0.0,
        ),
        _Chart(
            title="Success by anchor",
            note="rollouts from inside an expert's trajectory, by how much of it was replayed",
            metrics={
                "rollout/success_anchor_q1": "first quarter",
                "rollout/success_anchor_q2": "second",
                "rollout/success_anchor_q3": "third",
                "rollout/success_anchor_q4": "last quarter",
            },
            write=_share,
            floor=0.0,
        ),
        _Chart(
            title="Rollouts by anchor",
            note="that count, by how much of the expert's trajectory was replayed",
            metrics={
                "rollout/episodes_anchor_q1": "first quarter",
                "rollout/episodes_anchor_q2": "second",
                "rollout/episodes_anchor_q3": "third",
                "rollout/episodes_anchor_q4": "last quarter",
            },
            floor=0.0,
        ),
        _Chart(title="Reward", note="mean final reward", metrics={"rollout/reward": "reward"}),
        _Chart(title="Turns", note="model calls in a trajectory, mean", metrics={"rollout/turns": "turns"}, floor=0.0),
        _Chart(title="Tokens", note="sampled in a trajectory, mean", metrics={"rollout/tokens": "tokens"}, floor=0.0),
        _Chart(
            title="Failures and re-rolls",
            note="rollouts without a verdict; never a reward of 0",
            metrics={
                "rollout/infra_failed": "infrastructure failed",
                "rollout/rerolled": "rolled again",
                "rollout/lost": "lost",
                "rollout/dropped": "dropped",
            },
            floor=0.0,
        ),
        _Chart(
            title="Refused groups",
            note="left out by the algorithm, and others rolled out in their place",
            metrics={"rollout/refused_groups": "refused", "rollout/replaced_groups": "replaced"},
            floor=0.0,
        ),
    ),
    "Optimisation": (
        _Chart(title="Loss", note="of the optimizer steps", metrics={"train/loss": "loss"}),
        _Chart(
            title="Gradient norm", note="before clipping", metrics={"train/gradient_norm": "gradient norm"}, floor=0.0
        ),
        _Chart(title="Entropy", note="of the policy, nats for each token", metrics={"train/entropy": "entropy"}),
        _Chart(title="Learning rate", note="", metrics={"train/learning_rate": "learning rate"}, floor=0.0),
        _Chart(title="Trained tokens", note="in a step", metrics={"train/tokens": "tokens"}, floor=0.0),
    ),
    "Chunks": (
        _Chart(
            title="Chunk importance ratio",
            note="mean, and the middle nine tenths of the chunks",
            metrics={"ipa/ratio_mean": "ratio"},
        ),
        _Chart(
            title="Masked and clipped chunks",
            note="mismatch above the limit; ratio above 1",
            metrics={"ipa/mask_share": "masked", "ipa/ratio_clipped_share": "clipped"},
            write=_share,
            floor=0.0,
        ),
    ),
    "Time": (
        _Chart(
            title="Time of a step",
            note="wall time by phase",
            metrics={"time/rollout_s": "rollouts", "time/train_s": "training", "time/sync_s": "weight sync"},
            write=_seconds,
            stacked=True,
        ),
        _Chart(
            title="Time of an episode",
            note="mean wall time by phase",
            metrics={
                "time/sandbox_s": "sandbox",
                "time/reset_s": "reset",
                "time/model_s": "model",
                "time/tools_s": "tools",
                "time/verify_s": "verifier",
            },
            write=_seconds,
            stacked=True,
        ),
    ),
}

_BANDS = {"ipa/ratio_mean": "ipa/chunk_ratio"}
"""Metrics that are drawn with the middle nine tenths of a sample around them."""

_SAMPLES = {
    "ipa/chunk_ratio": ("Chunk importance ratios", "Chunks", "new policy / old policy"),
    "ipa/chunk_mismatch": ("Engine mismatch of the chunks", "Chunks", "training engine / inference engine"),
}
"""Sample → title, group, unit."""


def stage_charts(steps: Sequence[StepRecord]) -> list[tuple[str, list[Markup]]]:
    """Return the plots of one stage's steps, in named groups; whatever was measured is in one of them."""
    measured = {name for step in steps for name, value in step.values.items() if math.isfinite(value)}
    sampled = {name for step in steps for name, values in step.samples.items() if values}
    found: dict[str, list[Markup]] = {}
    for group, charts in (*_GROUPS.items(), *_unknown(measured)):
        drawn = [_draw(chart, steps, measured) for chart in charts if measured & chart.metrics.keys()]
        if drawn:
            found.setdefault(group, []).extend(drawn)
    for name in (*(name for name in _SAMPLES if name in sampled), *sorted(sampled - _SAMPLES.keys())):
        title, group, unit = _SAMPLES.get(name, (_titled(name), _prefix(name), "value"))
        found.setdefault(group, []).append(_draw_sample(name, title, unit, steps))
    return list(found.items())


def _unknown(measured: set[str]) -> list[tuple[str, list[_Chart]]]:
    known = {name for charts in _GROUPS.values() for chart in charts for name in chart.metrics}
    names = sorted(measured - known, key=lambda name: (_prefix(name), name))
    return [
        (prefix, [_Chart(title=_titled(name), note="", metrics={name: name}) for name in each])
        for prefix, each in groupby(names, key=_prefix)
    ]


def _prefix(name: str) -> str:
    prefix = name.partition("/")[0] if "/" in name else "other"
    homes = {"rollout": "Rollouts", "train": "Optimisation", "ipa": "Chunks", "time": "Time"}
    return homes.get(prefix, prefix.replace("_", " ").capitalize())


def _titled(name: str) -> str:
    return name.rpartition("/")[2].replace("_", " ").capitalize()


def _draw(chart: _Chart, steps: Sequence[StepRecord], measured: set[str]) -> Markup:
    series = [_series(name, shown, steps) for name, shown in chart.metrics.items() if name in measured]
    note = chart.note
    if any(len(each.steps) > POINT_LIMIT for each in series):
        note = "; ".join(filter(None, [note, f"averaged to {POINT_LIMIT} points, band: lowest to highest"]))
    if chart.stacked:
        plot = area_plot(series, label=chart.title, write=chart.write)
    else:
        plot = line_plot(series, label=chart.title, write=chart.write, floor=chart.floor)
    latest = "" if chart.stacked else _latest(series, chart.write)
    return _card(chart.title, note, plot, [each.name for each in series], latest, ", ".join(chart.metrics))


def _series(name: str, shown: str, steps: Sequence[StepRecord]) -> Series:
    band = _BANDS.get(name)
    spread = [sorted(step.samples.get(band, ())) if band else [] for step in steps]
    whole = bool(band) and all(spread)
    return Series(
        name=shown,
        steps=[step.step for step in steps],
        values=[step.values.get(name, math.nan) for step in steps],
        low=[_quantile(values, 0.05) for values in spread] if whole else (),
        high=[_quantile(values, 0.95) for values in spread] if whole else (),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[round(share * (len(ordered) - 1))]


def _latest(series: Sequence[Series], write: _Write) -> str:
    values = [value for value in series[0].values if math.isfinite(value)]
    return write(values[-1]) if len(series) == 1 and values else ""


def _draw_sample(name: str, title: str, unit: str, steps: Sequence[StepRecord]) -> Markup:
    third = max(len(steps) // 3, 1)
    early = [value for step in steps[:third] for value in step.samples.get(name, ())]
    late = [value for step in steps[-third:] for value in step.samples.get(name, ())]
    parts = [("first third of the steps", early), ("last third of the steps", late)]
    if len(steps) < 3 or not early or not late:
        parts = [("all steps", [value for step in steps for value in step.samples.get(name, ())])]
    plot = histogram(parts, label=title, unit=unit)
    return _card(
        title, "share of the values; the outermost bars hold all beyond", plot, [shown for shown, _ in parts], "", name
    )


def _card(title: str, note: str, plot: Markup, names: Sequence[str], latest: str, source: str) -> Markup:
    legend = [
        element("span", element("i", class_=f"key c{index}"), name, class_="legend-entry")
        for index, name in enumerate(names)
    ]
    return element(
        "figure",
        element(
            "figcaption",
            element("span", title, class_="chart-title", title=source),
            element("span", latest, class_="latest", title="at the last step") if latest else None,
            element("small", note) if note else None,
        ),
        plot,
        element("div", legend, class_="legend") if len(names) > 1 else None,
        class_="card chart",
    )
