"""Draw line, stacked-area and histogram plots as inline SVG; knows no metric.

Axes: x grows to the right, y upwards; sizes are in the units of the view box, about one CSS pixel.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tumbler_backends.observers.report.markup import Child, Markup, element
from tumbler_backends.observers.report.scale import Scale, figure, padded, ticks

__all__ = ["Series", "area_plot", "histogram", "line_plot"]

WIDTH, HEIGHT = 420, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 412, 10, 172
POINT_LIMIT = 140
"""Points drawn in one series; longer ones are averaged in equal stretches."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Values over whole-numbered steps; NaN leaves a gap."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    low: Sequence[float] = field(default_factory=tuple)
    """The lower edge of a band around the values; empty for none."""
    high: Sequence[float] = field(default_factory=tuple)


def line_plot(
    series: Sequence[Series], *, label: str, write: Callable[[float], str] = figure, floor: float | None = None
) -> Markup:
    """Draw the series over their steps. `label` is what a screen reader says; `write` writes a value."""
    drawn = [_thinned(each) for each in series]
    values = [v for each in drawn for v in (*each.values, *each.low, *each.high) if math.isfinite(v)]
    x, y = _scales(drawn, values, floor)
    marks: list[Child] = [_band(each, x, y, index) for index, each in enumerate(drawn)]
    marks += [_line(each, x, y, index) for index, each in enumerate(drawn)]
    return _frame(label, x, y, write, "step", [*marks, _hits(drawn, x, write)])


def area_plot(series: Sequence[Series], *, label: str, write: Callable[[float], str] = figure) -> Markup:
    """Draw the series stacked upon each other; they must share their steps, and NaN counts as 0."""
    drawn = [_thinned(each) for each in series]
    base = [0.0] * len(drawn[0].steps) if drawn else []
    layers: list[Series] = []
    for each in drawn:
        top = [low + (v if math.isfinite(v) else 0.0) for low, v in zip(base, each.values, strict=True)]
        layers.append(Series(name=each.name, steps=each.steps, values=top, low=base, high=top))
        base = top
    x, y = _scales(layers, base, 0.0)
    marks: list[Child] = [_band(each, x, y, index, kind="area") for index, each in enumerate(layers)]
    return _frame(label, x, y, write, "step", [*marks, _hits(drawn, x, write)])


def histogram(samples: Sequence[tuple[str, Sequence[float]]], *, label: str, unit: str, bins: int = 28) -> Markup:
    """Draw the distribution of each named sample as shares that add up to 1.

    The axis leaves out the outermost values, one in 400 at each end: one outlier must not flatten the rest.
    """
    everything = sorted(value for _, values in samples for value in values)
    beyond = len(everything) // 400
    low, high = padded(everything[beyond : len(everything) - beyond])
    edges = [low + (high - low) * index / bins for index in range(bins + 1)]
    shares = [(name, _shares(values, edges)) for name, values in samples]
    x = Scale(low=low, high=high, start=LEFT, end=RIGHT)
    top = max((share for _, row in shares for share in row), default=1.0)
    y = Scale(low=0.0, high=1.08 * top, start=BOTTOM, end=TOP)
    bars: list[Child] = [
        element(
            "rect",
            element("title", f"{name}: {figure(100 * share)} % between {figure(edges[i])} and {figure(edges[i + 1])}"),
            class_=f"bar c{index}",
            x=x(edges[i]),
            y=y(share),
            width=max(round(x(edges[i + 1]) - x(edges[i]) - 0.8, 1), 0.5),
            height=round(BOTTOM - y(share), 1),
        )
        for index, (name, row) in enumerate(shares)
        for i, share in enumerate(row)
        if share > 0
    ]
    return _frame(label, x, y, lambda share: f"{figure(100 * share)} %", unit, bars, whole=False)


def _thinned(series: Series) -> Series:
    count = len(series.steps)
    if count <= POINT_LIMIT:
        return series
    cuts = [round(index * count / POINT_LIMIT) for index in range(POINT_LIMIT + 1)]
    spans = list(pairwise(cuts))
    means = [_mean(series.values[a:b]) for a, b in spans]
    lows = [min(filter(math.isfinite, (series.low or series.values)[a:b]), default=math.nan) for a, b in spans]
    highs = [max(filter(math.isfinite, (series.high or series.values)[a:b]), default=math.nan) for a, b in spans]
    steps = [series.steps[(a + b) // 2] for a, b in spans]
    return Series(name=series.name, steps=steps, values=means, low=lows, high=highs)


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _shares(values: Sequence[float], edges: Sequence[float]) -> list[float]:
    counts = [0] * (len(edges) - 1)
    for value in values:
        counts[min(max(bisect_right(edges, value) - 1, 0), len(counts) - 1)] += 1
    return [count / max(len(values), 1) for count in counts]


def _scales(series: Sequence[Series], values: Sequence[float], floor: float | None) -> tuple[Scale, Scale]:
    steps = [step for each in series for step in each.steps]
    first, last = (min(steps), max(steps)) if steps else (0, 1)
    low, high = padded(values, floor=floor)
    return (
        Scale(low=first, high=last, start=LEFT, end=RIGHT),
        Scale(low=low, high=high, start=BOTTOM, end=TOP),
    )


def _frame(
    label: str,
    x: Scale,
    y: Scale,
    write: Callable[[float], str],
    unit: str,
    marks: Sequence[Child],
    *,
    whole: bool = True,
) -> Markup:
    """Return the plot with its grid, ticks and axis labels around the marks."""
    parts = [element("title", label)]
    for value in ticks(y.low, y.high, 5):
        parts.append(element("line", class_="grid", x1=LEFT, x2=RIGHT, y1=y(value), y2=y(value)))
        parts.append(element("text", write(value), class_="tick end", x=LEFT - 6, y=y(value) + 3.5))
    for value in ticks(x.low, x.high, 6, whole=whole):
        parts.append(element("line", class_="axis", x1=x(value), x2=x(value), y1=BOTTOM, y2=BOTTOM + 4))
        parts.append(element("text", figure(value), class_="tick middle", x=x(value), y=BOTTOM + 16))
    parts.append(element("line", class_="axis", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM))
    parts.append(element("text", unit, class_="tick middle", x=(LEFT + RIGHT) / 2, y=HEIGHT - 6))
    return element("svg", *parts, *marks, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", class_="plot")


def _runs(series: Series) -> list[list[int]]:
    """Return the stretches of indices between gaps."""
    runs: list[list[int]] = [[]]
    for index, value in enumerate(series.values):
        if math.isfinite(value):
            runs[-1].append(index)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _line(series: Series, x: Scale, y: Scale, colour: int) -> Markup:
    marks: list[Markup] = []
    for run in _runs(series):
        points = [f"{x(series.steps[i]):g},{y(series.values[i]):g}" for i in run]
        marks.append(element("polyline", class_="line", points=" ".join(points)))
        if len(run) == 1 or len(series.steps) <= 24:
            marks += [
                element("circle", class_="dot", cx=x(series.steps[i]), cy=y(series.values[i]), r=2.2) for i in run
            ]
    return element("g", *marks, class_=f"c{colour}")


def _band(series: Series, x: Scale, y: Scale, colour: int, kind: str = "band") -> Markup | None:
    if not series.low:
        return None
    shapes = []
    for run in _runs(series):
        upper = [f"{x(series.steps[i]):g},{y(series.high[i]):g}" for i in run]
        lower = [f"{x(series.steps[i]):g},{y(series.low[i]):g}" for i in reversed(run)]
        shapes.append(element("polygon", class_=kind, points=" ".join(upper + lower)))
    return element("g", *shapes, class_=f"c{colour}")


def _hits(series: Sequence[Series], x: Scale, write: Callable[[float], str]) -> Markup:
    """Return one invisible strip for each step that tells its values."""
    told: dict[int, list[str]] = {}
    for each in series:
        for step, value in zip(each.steps, each.values, strict=True):
            if math.isfinite(value):
                told.setdefault(step, []).append(f"{each.name} {write(value)}")
    half = max((RIGHT - LEFT) / max(len(told), 1) / 2, 1.0)
    strips = [
        element(
            "g",
            element("title", "\n".join([f"step {step}", *lines])),
            element("rect", x=x(step) - half, y=TOP, width=2 * half, height=BOTTOM - TOP),
            element("line", x1=x(step), x2=x(step), y1=TOP, y2=BOTTOM),
            class_="hit",
        )
        for step, lines in sorted(told.items())
    ]
    return element("g", *strips)
