"""A whole run: its stages, its folder, its results, and going on after any interruption."""

import json
import pickle
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tumbler.errors import ContractError, RegistryError, RunError, RunFolderError, TooManyFailuresError
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun
from tumbler.run.command import Interrupted, latest_unfinished, resume_run, start_run
from tumbler.run.folder import RunFolder
from tumbler.run.journal import StageJournal
from tumbler.trajectory import Trajectory, verify_trajectory

Resolve = Callable[..., ResolvedRun]
Interrupt = Callable[[ResolvedRun, Path, PluginHost, int], None]


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


@pytest.mark.parametrize("episodes", [1, 9, 10, 17, 22, 25, 31, 44, 50, 52, 60])
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    resolve: Resolve, host: PluginHost, tmp_path: Path, interrupt: Interrupt, episodes: int
) -> None:
    resolved = resolve("envs.two-step.delay=0.002")
    whole = start_run(resolved, tmp_path / "whole", host)
    interrupt(resolved, tmp_path / "cut", host, episodes)
    before = {path.parent.name: path.read_bytes() for path in (tmp_path / "cut").glob("stages/*/trajectories.jsonl")}
    resumed = resume_run(tmp_path / "cut", host)
    assert {**whole, "seconds": 0} == {**resumed, "seconds": 0}
    assert seen(tmp_path / "cut") == seen(tmp_path / "whole")
    for label, content in before.items():
        assert (tmp_path / "cut/stages" / label / "trajectories.jsonl").read_bytes().startswith(content)


def test_no_trajectory_is_used_in_two_steps_of_rl(
    resolve: Resolve, host: PluginHost, tmp_path: Path, interrupt: Interrupt
) -> None:
    resolved = resolve("envs.two-step.delay=0.002")
    interrupt(resolved, tmp_path / "cut", host, 40)
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


def test_a_folder_whose_run_never_began_is_passed_over_and_can_be_taken(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    for name in ("begun", "not"):
        folder = RunFolder(tmp_path / name)
        folder.create(resolve().to_json())
        folder.close()
    (tmp_path / "not/run.json").unlink()
    assert latest_unfinished(tmp_path) == tmp_path / "begun"
    folder.create(resolve().to_json())
    folder.close()


def test_two_processes_cannot_work_on_one_folder(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(resolve().to_json())
    with pytest.raises(RunFolderError, match="another process"):
        resume_run(tmp_path / "run", host)
    folder.close()


def test_a_torn_last_line_is_cut_off_and_the_episode_run_again(
    resolve: Resolve, host: PluginHost, tmp_path: Path, interrupt: Interrupt
) -> None:
    interrupt(resolve("envs.two-step.delay=0.002"), tmp_path / "cut", host, 5)
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


def test_a_folder_of_the_time_before_experts_were_kept_is_resumed(
    resolve: Resolve, host: PluginHost, tmp_path: Path, interrupt: Interrupt
) -> None:
    resolved = resolve("envs.two-step.delay=0.002")
    whole = start_run(resolved, tmp_path / "whole", host)
    interrupt(resolved, tmp_path / "cut", host, 40)
    state = json.loads((tmp_path / "cut/state.json").read_text())
    run = json.loads((tmp_path / "cut/run.json").read_text())
    for key in ("learnt", "experts", "teacher", "sampled_tokens"):
        del state[key]
    for key in ("experts", "pool", "max_replacements", "anchors", "token_budget", "publish_every"):
        del run["rl"][key]
    (tmp_path / "cut/state.json").write_text(json.dumps(state))
    (tmp_path / "cut/run.json").write_text(json.dumps(run))
    assert {**resume_run(tmp_path / "cut", host), "seconds": 0} == {**whole, "seconds": 0}


def test_checkpoints_can_be_left_to_the_end(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    start_run(resolve("runs.small.sft.checkpoint_every=0", "runs.small.rl.checkpoint_every=0"), tmp_path / "run", host)
    assert {each.name for each in (tmp_path / "run/checkpoints").iterdir()} == {"1-sft-7", "3-rl-5"}


def test_a_whole_step_is_credited_at_once_if_the_algorithm_can(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    start_run(resolve("runs.small.algorithm='fake/whole'", "runs.small.stages=['rl']"), tmp_path / "run", host)
    state = json.loads((tmp_path / "run/checkpoints/1-rl-5/state.json").read_text())
    assert set(state["credits"]) == {2.0}


def test_a_stage_ends_with_the_step_that_spends_its_tokens(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    whole = resolve("runs.small.stages=['rl']", "runs.small.rl.checkpoint_every=0")
    start_run(whole, tmp_path / "whole", host)
    tokens = Counter[str]()
    for name, trajectory in StageJournal(tmp_path / "whole/stages/1-rl").known().items():
        tokens[name.split("/")[1]] += trajectory.sampled_tokens
    two_steps = tokens["0"] + tokens["1"]
    for budget, steps in ((two_steps, 2), (two_steps + 1, 3), (1, 1), (0, 5)):
        path = tmp_path / f"{budget}-{steps}"
        results = start_run(replace(whole, rl=replace(whole.rl, token_budget=budget)), path, host)
        entry = stage(results, "1-rl")
        assert entry["steps"] == steps
        assert bool(entry["stopped"]) == (steps < 5)
        assert entry["checkpoint"] == f"checkpoints/1-rl-{steps}"


SPENDING = (
    "runs.small.stages=['rl']",
    "runs.small.algorithm={use='fake/choosy', anchored=true, drop_every=3}",
    "runs.small.rl.experts={source='self', attempts=2}",
    "runs.small.backends.inference={use='fake/scripted', fail_one_in=5}",
    "runs.small.rl.max_infra_failures=1",
)


def tokens_of(folder: Path, count: Callable[[Trajectory], bool]) -> list[int]:
    """Return the tokens that the policy sampled in those rollouts that count, by step."""
    tokens = Counter[int]()
    for name, trajectory in StageJournal(folder / "stages/1-rl").known().items():
        tokens[int(name.split("/")[1])] += trajectory.sampled_tokens * count(trajectory)
    return [tokens[step] for step in sorted(tokens)]


def test_all_that_the_policy_samples_is_spent(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    import tumbler_fake_run

    tumbler_fake_run.STEPS.clear()
    start_run(resolve(*SPENDING), tmp_path / "whole", host)
    spent = tokens_of(tmp_path / "whole", lambda _: True)
    assert [each.values["rollout/sampled_tokens"] for each in tumbler_fake_run.STEPS] == spent
    for odd in (
        tokens_of(tmp_path / "whole", lambda each: each.status == "dropped"),
        tokens_of(tmp_path / "whole", lambda each: each.status == "infra_failed"),
        tokens_of(tmp_path / "whole", lambda each: "expert" in each.id),
    ):
        assert sum(odd[:3]) > 0
    for budget, steps in ((sum(spent[:3]), 3), (sum(spent[:3]) + 1, 4)):
        path = tmp_path / f"{steps}"
        entry = stage(start_run(resolve(*SPENDING, f"runs.small.rl.token_budget={budget}"), path, host), "1-rl")
        assert entry["steps"] == steps


@pytest.mark.parametrize("episodes", [3, 20, 31])
def test_a_resumed_run_has_spent_as_much_as_an_uninterrupted_one(
    resolve: Resolve, host: PluginHost, tmp_path: Path, interrupt: Interrupt, episodes: int
) -> None:
    resolved = resolve(*SPENDING, "runs.small.rl.token_budget=300", "envs.two-step.delay=0.002")
    whole = start_run(resolved, tmp_path / "whole", host)
    interrupt(resolved, tmp_path / "cut", host, episodes)
    assert stage(resume_run(tmp_path / "cut", host), "1-rl") == stage(whole, "1-rl")
    assert "tokens are sampled" in stage(whole, "1-rl")["stopped"]


@pytest.mark.parametrize("size", [0, -1])
def test_a_plan_with_an_empty_group_is_refused(resolve: Resolve, host: PluginHost, tmp_path: Path, size: int) -> None:
    planned = resolve("runs.small.stages=['rl']", f"runs.small.algorithm={{use='fake/count', size={size}}}")
    with pytest.raises(ContractError, match=rf"group 0 of step 0, of task 'train-.*with a size of {size}"):
        start_run(planned, tmp_path / "run", host)


def test_an_interrupted_run_is_told_of_across_processes() -> None:
    error = Interrupted(Path("runs/small"), signal.SIGTERM)
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, Interrupted)
    assert (copy.folder, copy.number, str(copy)) == (error.folder, signal.SIGTERM, str(error))
    assert "stopped by SIGTERM" in str(copy)


def test_rollouts_are_stale_for_as_long_as_weights_are_not_published(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    late = resolve("runs.small.stages=['rl']", "runs.small.rl.publish_every=2", "runs.small.rl.checkpoint_every=2")
    start_run(late, tmp_path / "run", host)
    versions: dict[str, set[int | None]] = {}
    for name, trajectory in StageJournal(tmp_path / "run/stages/1-rl").known().items():
        found = versions.setdefault(name.split("/")[1], set())
        found.update(chunk.policy_version for chunk in trajectory.chunks)
    assert [versions[str(step)] for step in range(5)] == [{0}, {0}, {2}, {2}, {4}]


def test_checkpoints_between_publications_are_refused(resolve: Resolve) -> None:
    with pytest.raises(RegistryError, match="must be a multiple of publish_every"):
        resolve("runs.small.rl.publish_every=3")
