"""What a stage writes down while it works: each finished episode, and what each step used.

A process that goes on after a crash finds finished episodes here and does not run them again; the
steps after the last checkpoint are taken again from the very same episodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tumbler.contracts.values import JSON
from tumbler.run.files import append_line, read_line, read_lines, read_placed_lines, repair_lines
from tumbler.trajectory import Trajectory, trajectory_from_json, trajectory_to_json

__all__ = ["StageJournal", "UsedTrajectories"]


@dataclass(frozen=True, kw_only=True)
class UsedTrajectories:
    """Which trajectories a training step used, and how many optimizer steps it took."""

    step: int
    optimizer_steps: int
    trajectories: tuple[str, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason → attempts that the algorithm dropped for it."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Reason → groups that the algorithm refused for it."""


class StageJournal:
    """The journal of one stage, in the stage's folder."""

    def __init__(self, folder: Path) -> None:
        """Open the journal; torn last lines of a killed process are cut off."""
        self._trajectories = folder / "trajectories.jsonl"
        self._steps = folder / "steps.jsonl"
        self._places: dict[str, int] = {}
        repair_lines(self._trajectories)
        repair_lines(self._steps)

    def add(self, trajectory: Trajectory) -> None:
        """Write down a finished episode; it survives the death of this process at once."""
        self._places[trajectory.id] = append_line(self._trajectories, trajectory_to_json(trajectory))

    def known(self) -> dict[str, Trajectory]:
        """Return the finished episodes by id."""
        found: dict[str, Trajectory] = {}
        for place, line in read_placed_lines(self._trajectories):
            trajectory = trajectory_from_json(line)
            found[trajectory.id] = trajectory
            self._places[trajectory.id] = place
        return found

    def holds(self, trajectory: str) -> bool:
        """Return whether `read` would find it."""
        return trajectory in self._places

    def read(self, trajectory: str) -> Trajectory:
        """Return the finished episode of that id, which was added or found by `known`."""
        return trajectory_from_json(read_line(self._trajectories, self._places[trajectory]))

    def use(
        self,
        step: int,
        optimizer_steps: int,
        trajectories: Sequence[str],
        *,
        dropped: Mapping[str, int] | None = None,
        refused: Mapping[str, int] | None = None,
    ) -> None:
        """Write down which trajectories a step used, and what was refused for which reason."""
        line: dict[str, JSON] = {
            "step": step,
            "optimizer_steps": optimizer_steps,
            "trajectories": list(trajectories),
        }
        for name, reasons in (("dropped", dropped), ("refused", refused)):
            if reasons:
                line[name] = dict(sorted(reasons.items()))
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
                dropped=cast("dict[str, int]", line.get("dropped", {})),
                refused=cast("dict[str, int]", line.get("refused", {})),
            )
        return [latest[step] for step in sorted(latest)]
