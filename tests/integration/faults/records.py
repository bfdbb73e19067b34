"""What a run's folder must say after every fault: no completed trajectory is lost, and none is used twice."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tumbler.run.journal import StageJournal
from tumbler.trajectory import trajectory_from_json, verify_trajectory

STAGE = "1-rl"


def completed(folder: Path) -> bytes:
    """Return the lines of the journal that are whole: the trajectories that are completed."""
    path = folder / "stages" / STAGE / "trajectories.jsonl"
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def steps(folder: Path) -> list[Any]:
    """Return the lines on the steps, those that were taken again too."""
    path = folder / "stages" / STAGE / "steps.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def require_nothing_lost_or_twice(folder: Path, *, before: bytes) -> None:
    """Check the folder of a finished run whose journal was `before` when the last process on it ended."""
    after = completed(folder)
    assert after.startswith(before), "what was completed is changed or gone"
    assert after == (folder / "stages" / STAGE / "trajectories.jsonl").read_bytes(), "the last line is torn"
    trajectories = [trajectory_from_json(json.loads(line)) for line in after.splitlines()]
    for each in trajectories:
        verify_trajectory(each)
    again = [name for name, count in Counter(each.id for each in trajectories).items() if count > 1]
    assert not again, f"completed and run again all the same: {again}"
    used = Counter(name for step in StageJournal(folder / "stages" / STAGE).used() for name in step.trajectories)
    assert set(used.values()) == {1}, f"used twice: {[name for name, count in used.items() if count > 1]}"
    judged = {each.id for each in trajectories if each.judged}
    assert used.keys() == judged, f"completed and never used, or the other way round: {used.keys() ^ judged}"
    taken: dict[int, list[str]] = {}
    for line in steps(folder):
        assert taken.setdefault(line["step"], line["trajectories"]) == line["trajectories"], "trained other ones again"


def book(folder: Path) -> Any:
    """Return what the trainer of scripts had in its book in the end."""
    state = json.loads((folder / "state.json").read_text())
    return json.loads((folder / state["checkpoint"] / "state.json").read_text())


def require_each_in_the_book_once(folder: Path) -> None:
    """Check what the weights themselves have seen: as much as the journal has, each once."""
    seen = Counter(book(folder)["seen"])
    assert set(seen.values()) == {1}
    assert seen.keys() == {name for line in steps(folder) for name in line["trajectories"]}


def outcome(folder: Path) -> Any:
    """Return all that seeds decide of a run: results, weights, and each trajectory without its times."""
    results = json.loads((folder / "results.json").read_text())
    trajectories = {}
    for line in completed(folder).splitlines():
        value = json.loads(line)
        del value["seconds"]
        trajectories[value["header"]["id"]] = value
    return {**results, "seconds": 0}, book(folder), trajectories
