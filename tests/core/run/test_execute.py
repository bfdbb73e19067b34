"""A whole run: its stages, its folder, its results, and going on after any interruption."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tumbler.errors import RunError, RunFolderError, TooManyFailuresError
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun
from tumbler.run.command import resume_run, start_run
from tumbler.run.execute import execute_run
from tumbler.run.folder import RunFolder
from tumbler.run.journal import StageJournal
from tumbler.trajectory import verify_trajectory

Resolve = Callable[..., ResolvedRun]


def seen(folder: Path) -> list[str]:
    """Return the ids that the newest checkpoint's trainer was given, in order."""
    state = json.loads((folder / "state.json").read_text())
    found: list[str] = json.loads((folder / state["checkpoint"] / "state.json").read_text())["seen"]
    return found


def stage(results: Any, label: str) -> Any:
    return next(each for each in results["stages"] if each["label"] == label)


def test_a_run_takes_every_stage_and_writes_its_results(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    results = start_run(resolve(), tmp_path / "run", host)
    assert [each["label"] for each in results["stages"]] == ["1-sft", "2-eval", "3-rl", "4-eval"]
    assert results["optimizer_steps"] == 12
    assert stage(results, "2-eval")["envs"] == stage(results, "4-eval")["envs"]
    evaluated = stage(results, "4-eval")["envs"]["two-step"]
    assert evaluated["episodes"] == 12
    assert 0 < evaluated["successes"] < 12
    assert json.loads((tmp_path / "run/results.json").read_text()) == results


def test_every_journaled_trajectory_keeps_the_rules(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    start_run(resolve(), tmp_path / "run", host)
    counts = {}
    for label in ("1-sft", "2-eval", "3-rl", "4-eval"):
        known = StageJournal(tmp_path / "run/stages" / label).known()
        counts[label] = len(known)
        for trajectory in known.values():
            verify_trajectory(trajectory)
    assert counts == {"1-sft": 10, "2-eval": 12, "3-rl": 30, "4-eval": 12}


def test_anchored_plans_get_experts_and_replay_them(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    start_run(resolve("runs.small.algorithm={use='fake/count', anchored=true}"), tmp_path / "run", host)
    known = StageJournal(tmp_path / "run/stages/3-rl").known()
    anchored = [each for each in known.values() if each.header.anchor is not None]
    assert len(anchored) == 30
    assert all(each.chunks[0].replayed and not each.chunks[1].replayed for each in anchored)
    assert sum(each.header.source == "expert" for each in known.values()) == 10


def test_the_model_source_is_shown_demonstrations(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    start_run(resolve(), tmp_path / "run", host)
    texts = json.loads((tmp_path / "run/model/texts.json").read_text())
    assert len(texts) == 256
    assert all("@look" in text and "word: " in text for text in texts)


async def interrupted(resolved: ResolvedRun, path: Path, host: PluginHost, episodes: int) -> None:
    """Start the run and cancel it, as a signal does, when so many episodes are written down."""
    import tumbler_fake_run

    folder = RunFolder(path)
    state = folder.create(resolved.to_json())
    task = asyncio.ensure_future(execute_run(resolved, folder, state, host))
    left = episodes

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            task.cancel()

    tumbler_fake_run.LISTENERS.append(count)
    with pytest.raises(asyncio.CancelledError):
        await task
    tumbler_fake_run.LISTENERS.remove(count)
    folder.close()


@pytest.mark.parametrize("episodes", [1, 9, 10, 17, 22, 25, 31, 44, 50, 52, 60])
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    resolve: Resolve, host: PluginHost, tmp_path: Path, episodes: int
) -> None:
    resolved = resolve("envs.two-step.delay=0.002")
    whole = start_run(resolved, tmp_path / "whole", host)
    asyncio.run(interrupted(resolved, tmp_path / "cut", host, episodes))
    before = {path.parent.name: path.read_bytes() for path in (tmp_path / "cut").glob("stages/*/trajectories.jsonl")}
    resumed = resume_run(tmp_path / "cut", host)
    assert {**whole, "seconds": 0} == {**resumed, "seconds": 0}
    assert seen(tmp_path / "cut") == seen(tmp_path / "whole")
    for label, content in before.items():
        assert (tmp_path / "cut/stages" / label / "trajectories.jsonl").read_bytes().startswith(content)


def test_no_trajectory_is_used_in_two_steps_of_rl(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    resolved = resolve("envs.two-step.delay=0.002")
    asyncio.run(interrupted(resolved, tmp_path / "cut", host, 40))
    resume_run(tmp_path / "cut", host)
    journal = StageJournal(tmp_path / "cut/stages/3-rl")
    used = Counter(each for step in journal.used() for each in step.trajectories)
    assert set(used.values()) == {1}
    assert set(used) == set(journal.known())
    assert sum(step.optimizer_steps for step in journal.used()) == 5


def test_failed_rollouts_are_rolled_again_and_never_trained(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    start_run(resolve("envs.two-step.fail_every=7"), tmp_path / "run", host)
    journal = StageJournal(tmp_path / "run/stages/3-rl")
    known = journal.known()
    failed = {each.id for each in known.values() if each.status == "infra_failed"}
    assert failed
    used = {each for step in journal.used() for each in step.trajectories}
    assert not failed & used
    assert len(used) == 30


def test_an_environment_that_always_fails_stops_the_run_with_the_reason(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    with pytest.raises(TooManyFailuresError, match="out of memory"):
        start_run(resolve("envs.two-step.fail_every=1"), tmp_path / "run", host)


def test_a_finished_run_is_not_run_again(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    results = start_run(resolve(), tmp_path / "run", host)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.jsonl")}
    assert resume_run(tmp_path / "run", host) == results
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.jsonl")}


def test_a_folder_that_holds_a_run_is_not_overwritten(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    start_run(resolve(), tmp_path / "run", host)
    with pytest.raises(RunFolderError, match="already holds a run"):
        start_run(resolve(), tmp_path / "run", host)


def test_two_processes_cannot_work_on_one_folder(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(resolve().to_json())
    with pytest.raises(RunFolderError, match="another process"):
        resume_run(tmp_path / "run", host)
    folder.close()


def test_a_torn_last_line_is_cut_off_and_the_episode_run_again(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    asyncio.run(interrupted(resolve("envs.two-step.delay=0.002"), tmp_path / "cut", host, 5))
    path = tmp_path / "cut/stages/1-sft/trajectories.jsonl"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 3)
    results = resume_run(tmp_path / "cut", host)
    assert results["optimizer_steps"] == 12


def test_a_policy_without_any_spread_of_rewards_stops_the_stage(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    collapsed = "runs.small.backends.inference={use='fake/scripted', solves=false}"
    results = start_run(resolve(collapsed, "runs.small.rl.collapse_patience=2"), tmp_path / "run", host)
    entry = stage(results, "3-rl")
    assert entry["steps"] == 2
    assert "collapsed" in entry["stopped"]
    assert entry["checkpoint"] == "checkpoints/3-rl-2"


def test_experts_that_never_succeed_stop_the_run_with_the_reason(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="nothing to imitate"):
        start_run(resolve("runs.small.limits.turns=1"), tmp_path / "run", host)
