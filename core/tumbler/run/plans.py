"""What a stage writes down of waves that run ahead of training: their plans, and which step trains what of them.

A process that goes on after a crash carries on with these plans, and steps that are taken again train the same.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias, cast

from tumbler.contracts.algorithm import PlannedGroup
from tumbler.contracts.environment import Task
from tumbler.contracts.values import JSON, JSONObject
from tumbler.run.files import append_line, read_lines, repair_lines
from tumbler.run.journal import StageJournal
from tumbler.trajectory import Anchor, Trajectory, trajectory_from_json, trajectory_to_json

__all__ = ["PlaceName", "PlanJournal"]

PlaceName: TypeAlias = tuple[int, int]
"""A wave, and a place in its plan."""


class PlanJournal:
    """The plans and choices of one stage, in the stage's folder."""

    def __init__(self, folder: Path, episodes: StageJournal) -> None:
        """Open the journal; `episodes` holds the experts at whose chunks groups begin."""
        self._plans_path = folder / "plans.jsonl"
        self._choices_path = folder / "choices.jsonl"
        self._episodes = episodes
        for path in (self._plans_path, self._choices_path):
            repair_lines(path)
        self._plans: dict[str, list[JSONObject]] = {
            str(line["plan"]): cast("list[JSONObject]", line["groups"]) for line in read_lines(self._plans_path)
        }
        self._choices: dict[int, list[PlaceName]] = {
            cast("int", line["step"]): [(wave, place) for wave, place in cast("list[list[int]]", line["places"])]
            for line in read_lines(self._choices_path)
        }

    def write(self, name: str, groups: Sequence[PlannedGroup]) -> None:
        """Write down a wave's plan, named by its number, or that of a replacement in it."""
        self._plans[name] = [self._to_json(group) for group in groups]
        append_line(self._plans_path, {"plan": name, "groups": cast("list[JSON]", self._plans[name])})

    def read(self, name: str) -> tuple[PlannedGroup, ...] | None:
        """Return the plan of that name; None if none was written."""
        groups = self._plans.get(name)
        return None if groups is None else tuple(self._from_json(group) for group in groups)

    def replacements(self, wave: int, place: int) -> int:
        """Return how often the group at a place was replaced."""
        return sum(name.startswith(f"{wave}/{place}+") for name in self._plans)

    def choose(self, step: int, places: Sequence[PlaceName]) -> None:
        """Write down what a step trains."""
        if self._choices.get(step) != list(places):
            self._choices[step] = list(places)
            append_line(self._choices_path, {"step": step, "places": [list(place) for place in places]})

    def chosen(self, step: int) -> Sequence[PlaceName] | None:
        """Return what a step trains, if that was decided."""
        return self._choices.get(step)

    def trained(self, wave: int, *, before: int) -> set[int]:
        """Return the places of a wave that steps before `before` have trained."""
        return {place for step, places in self._choices.items() for of, place in places if step < before and of == wave}

    def oldest(self, step: int) -> int:
        """Return the first wave of which something is left to train at a step, or the step's own."""
        waves = [int(name) for name in self._plans if name.isdecimal()]
        left = [wave for wave in waves if len(self.trained(wave, before=step)) < len(self._plans[str(wave)])]
        return min([step, *left])

    def _to_json(self, group: PlannedGroup) -> JSONObject:
        anchor: JSONObject | None = None
        if group.anchor is not None:
            expert = group.anchor.expert
            known = self._episodes.holds(expert.id)
            anchor = {"expert": expert.id if known else trajectory_to_json(expert), "chunk": group.anchor.chunk}
        return {"task": cast("JSONObject", asdict(group.task)), "size": group.size, "anchor": anchor}

    def _from_json(self, value: JSONObject) -> PlannedGroup:
        fields = cast("dict[str, Any]", dict(value))
        anchor = fields["anchor"]
        return PlannedGroup(
            task=Task(**fields["task"]),
            size=fields["size"],
            anchor=None if anchor is None else Anchor(expert=self._expert(anchor["expert"]), chunk=anchor["chunk"]),
        )

    def _expert(self, expert: "str | JSONObject") -> Trajectory:
        return self._episodes.read(expert) if isinstance(expert, str) else trajectory_from_json(expert)
