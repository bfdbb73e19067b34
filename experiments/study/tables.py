"""Outcomes as Markdown tables: one row for each arm, one column for each condition."""

from collections.abc import Callable, Iterable, Sequence

from experiments.study.intervals import Interval, bootstrap, paired
from experiments.study.outcomes import Outcome

__all__ = ["arms_of", "comparison_table", "figure_table", "success_table", "values_of"]

Measure = Callable[[Outcome], float]


def values_of(outcomes: Sequence[Outcome], condition: str, arm: str, measure: Measure) -> dict[int, float]:
    """Return a measure by seed, without runs that ended in an error."""
    chosen = [each for each in outcomes if (each.cell.condition, each.cell.arm) == (condition, arm) and not each.error]
    return {each.cell.seed: measure(each) for each in chosen}


def success_table(outcomes: Sequence[Outcome], measure: Measure, *, corner: str = "arm") -> str:
    """Return means over seeds with their intervals, in percent."""
    return _table(outcomes, measure, Interval.percent, corner)


def figure_table(outcomes: Sequence[Outcome], measure: Measure, *, corner: str = "arm") -> str:
    """Return means over seeds with their intervals, as they are."""
    return _table(outcomes, measure, Interval.plain, corner)


def _table(outcomes: Sequence[Outcome], measure: Measure, shown: Callable[[Interval], str], corner: str) -> str:
    conditions = _in_order(each.cell.condition for each in outcomes)
    rows = [[f"| {corner} |", *(f" {condition} |" for condition in conditions)]]
    rows.append(["|---|", *("---|" for _ in conditions)])
    for arm in arms_of(outcomes):
        cells = []
        for condition in conditions:
            values = values_of(outcomes, condition, arm, measure)
            failed = sum(
                (each.cell.condition, each.cell.arm) == (condition, arm) and bool(each.error) for each in outcomes
            )
            text = shown(bootstrap(list(values.values()))) if values else "–"
            cells.append(f" {text}{f', {failed} failed' if failed else ''} |")
        rows.append([f"| {arm} |", *cells])
    return "\n".join("".join(row) for row in rows)


def comparison_table(outcomes: Sequence[Outcome], measure: Measure, *, against: str) -> str:
    """Return each arm's difference from one of them, paired by seed, in points."""
    conditions = _in_order(each.cell.condition for each in outcomes)
    rows = [f"| against {against} | " + " | ".join(conditions) + " |", "|---|" + "---|" * len(conditions)]
    for arm in arms_of(outcomes):
        if arm != against:
            cells = [_difference(outcomes, condition, arm, against, measure) for condition in conditions]
            rows.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def arms_of(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the arms in the order in which they were planned."""
    return _in_order(each.cell.arm for each in outcomes)


def _difference(outcomes: Sequence[Outcome], condition: str, arm: str, against: str, measure: Measure) -> str:
    ours = values_of(outcomes, condition, arm, measure)
    theirs = values_of(outcomes, condition, against, measure)
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return "–"
    return _signed(paired([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]))


def _signed(interval: Interval) -> str:
    clear = "**" if interval.low > 0 or interval.high < 0 else ""
    bounds = f" [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]" if interval.bounded else ""
    return f"{clear}{100 * interval.mean:+.1f}{clear}{bounds}"


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
