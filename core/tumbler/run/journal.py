"""What a stage writes down while it works: each finished episode, and what each step used.

A process that goes on after a crash finds finished episodes here and does not run them again; the
steps after the last checkpoint are taken again from the very same episodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tumbler.contracts.values import JSONObject
from tumbler.run.files import append_line, read_lines, repair_lines
from tumbler.trajectory import Trajectory, trajectory_from_json, trajectory_to_json

__all__ = ["StageJournal", "UsedTrajectories"]


@dataclass(frozen=True, kw_only=True)
class UsedTrajectories:
    """Which trajectories a training step used, and how many optimizer steps it took."""

    step: int
    optimizer_steps: int
    trajectories: tuple[str, ...]


class StageJournal:
    """The journal of one stage, in the stage's folder."""

    def __init__(self, folder: Path) -> None:
        """Open the journal; torn last lines of a killed process are cut off."""
        self._trajectories = folder / "trajectories.jsonl"
        self._steps = folder / "steps.jsonl"
        repair_lines(self._trajectories)
        repair_lines(self._steps)

    def add(self, trajectory: Trajectory) -> None:
        """Write down a finished episode; it survives the death of this process at once."""
        append_line(self._trajectories, trajectory_to_json(trajectory))

    def known(self) -> dict[str, Trajectory]:
        """Return the finished episodes by id."""
        records = (trajectory_from_json(line) for line in read_lines(self._trajectories))
        return {trajectory.id: trajectory for trajectory in records}

    def use(self, step: int, optimizer_steps: int, trajectories: Sequence[str]) -> None:
        """Write down which trajectories a step used."""
        line: JSONObject = {"step": step, "optimizer_steps": optimizer_steps, "trajectories": list(trajectories)}
        append_line(self._steps, line)

    def used(self) -> list[UsedTrajectories]:
        """Return what each step used, in order; a step that was taken again counts once."""
        latest: dict[int, UsedTrajectories] = {}
        for line in read_lines(self._steps):
            step = cast("int", line["step"])
            latest[step] = UsedTrajectories(
                step=step,
                optimizer_steps=cast("int", line["optimizer_steps"]),
                trajectories=tuple(cast("list[str]", line["trajectories"])),
            )
        return [latest[step] for step in sorted(latest)]
