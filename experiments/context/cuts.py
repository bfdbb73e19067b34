"""Arm C: each task once more for every place where its conversation can be cut, with all before it left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from experiments.context.arms import CEILING
from experiments.context.controls import ForcedCut, Shown
from experiments.context.episodes import play
from experiments.context.families import build
from experiments.context.grammar import NOW
from experiments.context.script import Script

from tumbler.rollout.context import NamedStrategy

__all__ = ["STAGES", "Cut", "Stage", "cut_everywhere"]

Stage: TypeAlias = Literal["before", "between", "after"]
"""Whether a cut comes before anything that is needed was told, between that and the last request for it, or after."""
STAGES: tuple[Stage, ...] = ("before", "between", "after")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One cut, and what became of the task."""

    family: str
    seed: int
    place: float
    """The part of the conversation that it leaves out, 0 to 1."""
    stage: Stage
    lost: bool
    broken: int
    """Rules that were broken."""


async def cut_everywhere(family: str, seed: int) -> list[Cut]:
    """Play the task once whole, and once more for each legal cut, in an unlimited window."""
    whole: list[Sequence[Shown]] = []
    await play(CEILING, family, seed, strategies=[_forced(None, whole)])
    entries = whole[-1]
    script = build(family, seed)
    found = []
    for index, entry in enumerate(entries):
        if not entry.cut:
            continue
        measured = await play(CEILING, family, seed, strategies=[_forced(entry.id, [])])
        found.append(
            Cut(
                family=family,
                seed=seed,
                place=index / len(entries),
                stage=_stage(script, entries, index),
                lost=not measured.success,
                broken=measured.violations,
            )
        )
    return found


def _forced(at: int | None, prompts: list[Sequence[Shown]]) -> NamedStrategy:
    return NamedStrategy(name="forced-cut", strategy=ForcedCut(at, prompts))


def _stage(script: Script, entries: Sequence[Shown], cut: int) -> Stage:
    """Return where a cut before the entry of this index lies."""
    told = any(sentence in entry.text for entry in entries[:cut] for sentence in script.needed)
    request = [step.request for step in script.steps if step.scored][-1]
    asked = max(index for index, entry in enumerate(entries) if f"{NOW}{request}." in entry.text)
    if not told:
        return "before"
    return "after" if cut > asked else "between"
