"""What was measured as Markdown tables; knows no strategy but by its name."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from experiments.context.arms import ARMS, CEILING
from experiments.context.cuts import STAGES, Cut
from experiments.context.measures import Measured
from experiments.context.scores import Share, by_task, difference, flips
from experiments.study.intervals import Interval

__all__ = [
    "arm_table",
    "cost_table",
    "cut_table",
    "difference_table",
    "family_table",
    "late_table",
    "markdown",
    "of_arm",
    "signed",
]


def of_arm(measured: Iterable[Measured], arm: str) -> list[Measured]:
    """Return the episodes of an arm."""
    return [each for each in measured if each.arm == arm]


def arm_table(measured: Sequence[Measured]) -> str:
    """Return how many tasks each arm completes, and how they flip against the ceiling."""
    head = ["arm", "completed, %", "lost", "won", "overflows", "facts never shown, %", "plans refused", "rules broken"]
    ceiling = by_task(of_arm(measured, CEILING.name))
    told = sum(each.told for each in of_arm(measured, CEILING.name))
    rows = []
    for name in _arms(measured):
        mine = of_arm(measured, name)
        flipped = flips(by_task(mine), ceiling)
        rows.append(
            [
                _label(name),
                str(Share(hits=sum(each.success for each in mine), count=len(mine))),
                f"{flipped.lost}",
                f"{flipped.won}",
                f"{sum(each.ending == 'context_overflow' for each in mine)}",
                f"{100 * sum(len(each.unshown) for each in mine) / told:.1f}",
                f"{sum(each.refusals for each in mine)}",
                f"{sum(each.violations for each in mine)}",
            ]
        )
    return markdown(head, rows)


def cost_table(measured: Sequence[Measured]) -> str:
    """Return what an episode costs with each arm, on average."""
    head = [
        "arm",
        "tokens read and written, k",
        "of these for strategies, k",
        "share of prompts that a cache has, %",
        "tokens computed, k",
        "peak prompt",
        "steps",
        "segments",
    ]
    rows = []
    for name in _arms(measured):
        mine = of_arm(measured, name)
        prompts = fmean(each.prompt_tokens for each in mine)
        cached = fmean(each.cached_tokens for each in mine)
        rows.append(
            [
                _label(name),
                f"{fmean(each.tokens for each in mine) / 1000:.1f}",
                f"{fmean(each.strategy_tokens for each in mine) / 1000:.1f}",
                f"{100 * cached / prompts:.0f}",
                f"{fmean(each.tokens - each.cached_tokens for each in mine) / 1000:.1f}",
                f"{max(each.peak for each in mine)}",
                f"{fmean(each.steps for each in mine):.1f}",
                f"{fmean(each.segments for each in mine):.1f}",
            ]
        )
    return markdown(head, rows)


def family_table(measured: Sequence[Measured]) -> str:
    """Return which part of each family's tasks each arm completes, in percent."""
    families = list(dict.fromkeys(each.family for each in measured))
    rows = []
    for name in _arms(measured):
        mine = of_arm(measured, name)
        shares = []
        for family in families:
            solved = [each.success for each in mine if each.family == family]
            shares.append(f"{100 * fmean(solved):.0f}")
        rows.append([_label(name), *shares])
    return markdown(["completed, %", *families], rows)


def difference_table(measured: Sequence[Measured], pairs: Sequence[tuple[str, str]], families: Sequence[str]) -> str:
    """Return differences of arms in points, paired by task: over all families, and in some of them."""
    everything = list(dict.fromkeys(each.family for each in measured))
    rows = []
    for first, second in pairs:
        ours, theirs = by_task(of_arm(measured, first)), by_task(of_arm(measured, second))
        columns = [everything, *([family] for family in families)]
        rows.append([f"{first} − {second}", *(signed(difference(ours, theirs, each)) for each in columns)])
    return markdown(["difference, points", "all families", *families], rows)


def late_table(measured: Sequence[Measured], family: str) -> str:
    """Return how many answers that came late were gone before any prompt held them."""
    rows = []
    for name in _arms(measured):
        mine = [each for each in of_arm(measured, name) if each.family == family]
        lost = sum(any("of beta is" in fact for fact in each.unshown) for each in mine if each.ending == "terminated")
        if lost:
            rows.append([_label(name), f"{lost} of {len(mine)}"])
    return markdown(["arm", "late answers that no prompt ever held"], rows)


def cut_table(cuts: Sequence[Cut]) -> str:
    """Return for each family how many legal cuts lose the task, by where they lie."""
    rows = []
    for family in dict.fromkeys(each.family for each in cuts):
        mine = [each for each in cuts if each.family == family]
        row = [family, f"{len(mine)}", str(Share(hits=sum(each.lost for each in mine), count=len(mine)))]
        for stage in STAGES:
            there = [each.lost for each in mine if each.stage == stage]
            row.append(f"{sum(there)} of {len(there)}")
        rows.append(row)
    head = ["family", "legal cuts", "lose the task, %", "before it is told", "in between", "after the last request"]
    return markdown(head, rows)


def signed(interval: Interval) -> str:
    """Return a difference in points, bold where its interval excludes 0."""
    clear = "**" if interval.low > 0 or interval.high < 0 else ""
    bounds = f" [{100 * interval.low:+.0f}, {100 * interval.high:+.0f}]" if interval.bounded else ""
    return f"{clear}{100 * interval.mean:+.0f}{clear}{bounds}"


def _arms(measured: Sequence[Measured]) -> list[str]:
    return list(dict.fromkeys(each.arm for each in measured))


def _label(name: str) -> str:
    control = any(arm.name == name and arm.control for arm in ARMS)
    return f"*{name}*" if control else name


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
