"""Plots show the values they are given."""

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumbler_backends.observers.report.plot import POINT_LIMIT, Series, area_plot, histogram, line_plot
from tumbler_backends.observers.report.scale import Scale, duration, figure, padded, ticks

finite = st.floats(min_value=-1e12, max_value=1e12)


def tooltips(svg: str) -> list[str]:
    return [title.text or "" for title in ElementTree.fromstring(svg).iter("title")]


def polylines(svg: str) -> list[list[tuple[float, ...]]]:
    found = re.findall(r'<polyline[^>]* points="([^"]*)"', svg)
    return [[tuple(map(float, point.split(","))) for point in points.split()] for points in found]


def test_a_line_goes_up_where_the_values_do() -> None:
    [points] = polylines(line_plot([Series(name="a", steps=range(3), values=[1.0, 2.0, 3.0])], label="A"))
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)


def test_each_step_tells_its_values() -> None:
    svg = line_plot(
        [Series(name="a", steps=[4, 5], values=[1.0, 2.0]), Series(name="b", steps=[4, 5], values=[0.5, math.nan])],
        label="A",
    )
    assert tooltips(svg) == ["A", "step 4\na 1\nb 0.5", "step 5\na 2"]


def test_a_value_that_is_not_a_number_leaves_a_gap() -> None:
    svg = line_plot([Series(name="a", steps=range(5), values=[1.0, 2.0, math.nan, 3.0, 4.0])], label="A")
    assert [len(line) for line in polylines(svg)] == [2, 2]


def test_a_long_series_is_averaged_and_keeps_its_extremes_as_a_band() -> None:
    values = [float(step % 2) for step in range(10_000)]
    svg = line_plot([Series(name="a", steps=range(10_000), values=values)], label="A")
    [points] = polylines(svg)
    assert len(points) == POINT_LIMIT
    assert len({y for _, y in points}) < 4
    assert 'class="band"' in svg


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [math.nan, 2.0], [math.nan], [-1e-9, 1e9]])
def test_odd_series_are_drawn(values: list[float]) -> None:
    svg = line_plot([Series(name="a", steps=range(len(values)), values=values)], label="A", floor=0.0)
    ElementTree.fromstring(svg)
    assert "nan" not in svg


def test_areas_stand_on_each_other() -> None:
    one, two = (Series(name=name, steps=[0, 1], values=[value] * 2) for name, value in (("a", 1.0), ("b", 2.0)))
    polygons = re.findall(r'<polygon class="area" points="([^"]*)"', area_plot([one, two], label="A"))
    first, second = ([tuple(map(float, p.split(","))) for p in points.split()] for points in polygons)
    assert first[:2] == second[:1:-1], "the lower edge of the second is the upper edge of the first"


def test_the_shares_of_a_histogram_add_up_to_one() -> None:
    titles = tooltips(histogram([("all", [0.9, 1.0, 1.0, 1.1])], label="H", unit="ratio"))
    shares = [float(share) for title in titles for share in re.findall(r": ([\d.]+) %", title)]
    assert len(shares) == 3
    assert sum(shares) == pytest.approx(100)


def test_one_outlier_does_not_flatten_a_histogram() -> None:
    values = [index / 1000 for index in range(1000)]
    assert len(tooltips(histogram([("all", [*values, 1e6])], label="H", unit="ratio"))) > 20


@given(finite, finite)
def test_ticks_are_few_and_lie_on_the_axis(one: float, other: float) -> None:
    low, high = padded([one, other])
    found = ticks(low, high)
    assert len(found) <= 6
    room = 1e-9 * max(abs(low), abs(high), 1e-3)
    assert all(low - room <= tick <= high + room for tick in found)


@given(st.lists(finite, min_size=1))
def test_an_axis_holds_every_value(values: list[float]) -> None:
    low, high = padded(values, floor=0.0)
    assert low <= min(*values, 0.0) and max(values) <= high
    scale = Scale(low=low, high=high, start=0, end=100)
    assert all(-0.1 <= scale(value) <= 100.1 for value in values)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (0.93, "0.93"),
        (-0.5, "\N{MINUS SIGN}0.5"),
        (2e-5, "2e\N{MINUS SIGN}5"),
        (5123, "5123"),
        (12_345, "12.3k"),
        (2.5e6, "2.5M"),
        (math.nan, "n/a"),
    ],
)
def test_figures_are_short(value: float, written: str) -> None:
    assert figure(value) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.42, "0.42 s"), (8.34, "8.3 s"), (185, "3 min 05 s"), (8040, "2 h 14 min"), (3599.7, "1 h 00 min")],
)
def test_durations_are_written_for_people(seconds: float, written: str) -> None:
    assert duration(seconds) == written
