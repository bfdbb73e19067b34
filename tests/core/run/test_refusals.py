"""Rollouts that the algorithm refuses: dropped and rolled again, groups replaced, and all of it resumable."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun
from tumbler.run.command import resume_run, start_run
from tumbler.run.journal import StageJournal
from tumbler.trajectory import Trajectory, verify_trajectory

Resolve = Callable[..., ResolvedRun]
Interrupt = Callable[[ResolvedRun, Path, PluginHost, int], None]


def trained(folder: Path) -> list[str]:
    """Return the ids that the newest checkpoint's trainer was given, in order."""
    state = json.loads((folder / "state.json").read_text())
    found: list[str] = json.loads((folder / state["checkpoint"] / "state.json").read_text())["seen"]
    return found


def beginnings(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return from where each episode of a run of `rl` alone began."""
    found = StageJournal(folder / "stages/1-rl").known().values()
    return {each.id: (each.header.task, each.header.seed, each.header.anchor, each.status) for each in found}


def entry_of(results: Any, label: str = "3-rl") -> Any:
    return next(each for each in results["stages"] if each["label"] == label)


@pytest.fixture(autouse=True)
def forget_steps(host: PluginHost) -> None:
    """The fake plugin stays imported from test to test."""
    import tumbler_fake_run

    tumbler_fake_run.STEPS.clear()


def steps() -> list[Mapping[str, float]]:
    """Return the figures of the run's RL steps, as observers were told."""
    import tumbler_fake_run

    return [each.values for each in tumbler_fake_run.STEPS if "rollout/episodes" in each.values]


def choosy(**settings: Any) -> str:
    fields = ", ".join(f"{name}={json.dumps(value)}" for name, value in settings.items())
    return f"runs.small.algorithm={{use='fake/choosy', {fields}}}"


def known(folder: Path) -> dict[str, Trajectory]:
    return StageJournal(folder / "stages/3-rl").known()


def used(folder: Path) -> list[str]:
    return [each for step in StageJournal(folder / "stages/3-rl").used() for each in step.trajectories]


def test_a_dropped_rollout_starts_again_with_another_seed(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    results = start_run(resolve(choosy(drop_every=3), "runs.small.rl.attempts=30"), tmp_path / "run", host)
    found = known(tmp_path / "run")
    dropped = [each for each in found.values() if each.status == "dropped"]
    assert dropped
    for each in dropped:
        verify_trajectory(each)
        again = found[f"{each.id.partition('~')[0]}~{each.header.attempt + 1}"]
        assert again.header.task == each.header.task
        assert again.header.seed != each.header.seed
    assert not {each.id for each in dropped} & set(used(tmp_path / "run"))
    assert len(used(tmp_path / "run")) == 30
    assert entry_of(results)["dropped"] == {"unlucky seed": len(dropped)}
    assert sum(each["rollout/dropped"] for each in steps()) == len(dropped)


def test_what_is_dropped_in_every_attempt_is_missing_and_no_failure(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    results = start_run(
        resolve(choosy(drop_every=1), "runs.small.rl.max_replacements=0", "runs.small.rl.attempts=2"),
        tmp_path / "run",
        host,
    )
    assert entry_of(results)["dropped"] == {"unlucky seed": 60}
    assert entry_of(results)["refused"] == {"none of its rollouts was kept": 10}
    assert used(tmp_path / "run") == []
    assert sum(each["rollout/lost"] for each in steps()) == 0


def test_a_refused_group_is_replaced_by_one_of_another_task(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    start_run(resolve(choosy(refuse="solved"), "runs.small.rl.max_replacements=50"), tmp_path / "run", host)
    found = known(tmp_path / "run")
    kept = [found[each] for each in used(tmp_path / "run")]
    assert len(kept) == 30, "the batch has its size in spite of what was refused"
    assert not any(each.success for each in kept)
    groups = Counter(each.header.group for each in found.values())
    replaced = [group for group in groups if "+" in group]
    assert replaced
    for group in replaced:
        planned, _, turn = group.partition("+")
        before = planned if turn == "1" else f"{planned}+{int(turn) - 1}"
        tasks = {each.header.task for each in found.values() if each.header.group in (group, before)}
        assert len(tasks) == 2
    assert sum(each["rollout/replaced_groups"] for each in steps()) == len(replaced)


def test_replacements_keep_to_their_bound(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    results = start_run(resolve(choosy(refuse="all"), "runs.small.rl.max_replacements=3"), tmp_path / "run", host)
    assert [each["rollout/replaced_groups"] for each in steps()] == [3.0] * 5
    assert [each["rollout/refused_groups"] for each in steps()] == [5.0] * 5
    assert entry_of(results)["refused"] == {"refused": 25}
    assert used(tmp_path / "run") == []
    groups = {each.header.group for each in known(tmp_path / "run").values()}
    assert {group.removeprefix("3-rl/0/") for group in groups if group.startswith("3-rl/0/")} == {
        "0",
        "1",
        "0+1",
        "1+1",
        "0+2",
    }


def test_a_policy_that_the_algorithm_only_refuses_still_counts_as_collapsed(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    results = start_run(
        resolve(
            choosy(refuse="all"),
            "runs.small.backends.inference={use='fake/scripted', solves=false}",
            "runs.small.rl.collapse_patience=2",
        ),
        tmp_path / "run",
        host,
    )
    assert entry_of(results)["steps"] == 2


def test_what_was_observed_decides_the_next_plan_and_is_told_at_the_end(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    results = start_run(resolve(choosy(learns=True, refuse="solved")), tmp_path / "run", host)
    entry = entry_of(results)
    assert json.loads((tmp_path / "run/stages/3-rl/crucial.json").read_text()) == entry["crucial"]
    assert entry["crucial"]["task"] == steps()[-1]["choosy/seen"]
    assert len({each["rollout/episodes"] for each in steps()}) > 1, "the sizes follow what was observed"


@pytest.mark.parametrize("episodes", [24, 31, 37, 44, 52, 60, 66])
def test_a_resumed_run_refuses_replaces_and_learns_as_an_uninterrupted_one(
    resolve: Resolve, host: PluginHost, tmp_path: Path, interrupt: Interrupt, episodes: int
) -> None:
    resolved = resolve(
        choosy(learns=True, refuse="solved", drop_every=5, anchored=True),
        "envs.two-step.delay=0.001",
        "runs.small.stages=['rl']",
        "runs.small.rl.pool=5",
        "runs.small.rl.experts={source='self', attempts=2, refresh_every=2, keep='recent'}",
    )
    whole = start_run(resolved, tmp_path / "whole", host)
    interrupt(resolved, tmp_path / "cut", host, episodes)
    resumed = resume_run(tmp_path / "cut", host)
    assert {**whole, "seconds": 0} == {**resumed, "seconds": 0}
    assert trained(tmp_path / "cut") == trained(tmp_path / "whole")
    assert beginnings(tmp_path / "cut") == beginnings(tmp_path / "whole")
