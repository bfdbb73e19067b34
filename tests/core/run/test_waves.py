"""Rollouts that run ahead of training: how far, what each step trains, what is masked, and going on after a crash."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tumbler.errors import TooManyFailuresError
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun
from tumbler.run.command import resume_run, start_run
from tumbler.run.journal import StageJournal

Resolve = Callable[..., ResolvedRun]
Interrupt = Callable[[ResolvedRun, Path, PluginHost, int], None]
AHEAD = (
    "runs.small.stages=['rl']",
    "runs.small.rl.steps=6",
    "runs.small.rl.max_staleness=2",
    "runs.small.rl.collapse_patience=0",
    "envs.two-step.delay=0.002",
    "runs.small.backends.training={use='fake/counter', delay=0.02}",
)
SLOW = ("envs.two-step.slow_one_in=5", "runs.small.backends.training={use='fake/counter', delay=0.004}")
ARRIVAL = "runs.small.rl.order='arrival'"


@pytest.fixture
def fake(host: PluginHost) -> Any:
    import tumbler_fake_run

    for record in (tumbler_fake_run.EVENTS, tumbler_fake_run.STEPS):
        record.clear()
    return tumbler_fake_run


def journal(folder: Path) -> StageJournal:
    return StageJournal(folder / "stages/1-rl")


def trained(folder: Path) -> list[list[str]]:
    return [list(step.trajectories) for step in journal(folder).used()]


def waves_of(ids: list[str]) -> set[int]:
    return {int(each.split("/")[1]) for each in ids}


def finished_while_training(fake: Any) -> bool:
    return any(
        event.startswith("training") and following.startswith("finished")
        for event, following in zip(fake.EVENTS, fake.EVENTS[1:], strict=False)
    )


@pytest.mark.parametrize("staleness", [0, 2])
def test_rollouts_and_training_overlap_only_where_they_may(
    resolve: Resolve, host: PluginHost, tmp_path: Path, fake: Any, staleness: int
) -> None:
    fake.LISTENERS.append(lambda: fake.EVENTS.append("finished"))
    start_run(resolve(*AHEAD, f"runs.small.rl.max_staleness={staleness}"), tmp_path / "run", host)
    fake.LISTENERS.pop()
    assert finished_while_training(fake) == bool(staleness)


def test_each_step_trains_its_own_wave_in_the_order_of_the_plan(
    resolve: Resolve, host: PluginHost, tmp_path: Path, fake: Any
) -> None:
    start_run(resolve(*AHEAD, *SLOW), tmp_path / "run", host)
    assert [waves_of(step) for step in trained(tmp_path / "run")] == [{step} for step in range(6)]
    assert all(step == sorted(step) for step in trained(tmp_path / "run"))


def test_no_wave_begins_earlier_than_the_bound_allows(
    resolve: Resolve, host: PluginHost, tmp_path: Path, fake: Any
) -> None:
    start_run(resolve(*AHEAD), tmp_path / "run", host)
    lags = [step.values["rollout/staleness_max"] for step in fake.STEPS]
    assert max(lags) == 2
    assert [step.values["rollout/stale_share"] for step in fake.STEPS] == [0] * 6


def test_in_the_order_of_arrival_no_step_waits_for_slow_episodes_and_each_is_trained_once(
    resolve: Resolve, host: PluginHost, tmp_path: Path, fake: Any
) -> None:
    start_run(resolve(*AHEAD, *SLOW, ARRIVAL), tmp_path / "run", host)
    steps = trained(tmp_path / "run")
    assert any(waves_of(step) != {number} for number, step in enumerate(steps))
    used = Counter(each for step in steps for each in step)
    assert set(used.values()) == {1}
    assert set(used) == set(journal(tmp_path / "run").known())
    assert [len(step) for step in steps] == [6] * 6


def test_chunks_that_are_too_old_are_masked_and_the_rest_of_their_trajectory_is_trained(
    resolve: Resolve, host: PluginHost, tmp_path: Path, fake: Any
) -> None:
    late = (
        "envs.two-step.slow_one_in=13",
        "envs.two-step.delay=0.01",
        "runs.small.backends.training={use='fake/counter', delay=0.0}",
    )
    start_run(
        resolve(*AHEAD, *late, ARRIVAL, "runs.small.rl.steps=12", "runs.small.rl.max_staleness=1"),
        tmp_path / "run",
        host,
    )
    stale = [step.values["rollout/stale_share"] for step in fake.STEPS]
    state = json.loads(next((tmp_path / "run").glob("checkpoints/1-rl-12/state.json")).read_text())
    assert any(0 < share < 1 for share in stale)
    assert state["masked"] > 0


def test_stale_chunks_can_be_left_to_the_algorithm(
    resolve: Resolve, host: PluginHost, tmp_path: Path, fake: Any
) -> None:
    late = (
        "envs.two-step.slow_one_in=13",
        "envs.two-step.delay=0.01",
        "runs.small.backends.training={use='fake/counter', delay=0.0}",
    )
    keep = ("runs.small.rl.steps=12", "runs.small.rl.max_staleness=1", "runs.small.rl.stale_chunks='keep'")
    start_run(resolve(*AHEAD, *late, ARRIVAL, *keep), tmp_path / "run", host)
    state = json.loads(next((tmp_path / "run").glob("checkpoints/1-rl-12/state.json")).read_text())
    assert max(step.values["rollout/stale_share"] for step in fake.STEPS) > 0
    assert state["masked"] == 0


@pytest.mark.parametrize("order", ["plan", "arrival"])
@pytest.mark.parametrize("episodes", [1, 7, 12, 19, 25, 31, 35])
def test_a_run_that_was_interrupted_loses_nothing_and_trains_nothing_twice(
    resolve: Resolve, host: PluginHost, tmp_path: Path, interrupt: Interrupt, fake: Any, episodes: int, order: str
) -> None:
    resolved = resolve(
        *AHEAD, *SLOW, f"runs.small.rl.order='{order}'", "runs.small.algorithm={use='fake/count', anchored=true}"
    )
    interrupt(resolved, tmp_path / "cut", host, episodes)
    before = {each.id for each in journal(tmp_path / "cut").known().values() if each.header.source == "policy"}
    decided = [line.split('"places":')[1] for line in choices(tmp_path / "cut")]
    resume_run(tmp_path / "cut", host)
    used = Counter(each for step in trained(tmp_path / "cut") for each in step)
    assert set(used.values()) == {1}
    assert before <= set(used)
    assert len(used) == 36
    assert [line.split('"places":')[1] for line in choices(tmp_path / "cut")][: len(decided)] == decided


def choices(folder: Path) -> list[str]:
    path = folder / "stages/1-rl/choices.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_groups_refused_far_ahead_are_replaced_and_all_of_it_survives_an_interruption(
    resolve: Resolve, host: PluginHost, tmp_path: Path, interrupt: Interrupt, fake: Any
) -> None:
    resolved = resolve(
        *AHEAD, *SLOW, ARRIVAL, "runs.small.algorithm={use='fake/choosy', refuse='solved', drop_every=5}"
    )
    interrupt(resolved, tmp_path / "cut", host, 30)
    resume_run(tmp_path / "cut", host)
    used = Counter(each for step in trained(tmp_path / "cut") for each in step)
    assert set(used.values()) == {1}
    assert any("+" in each for each in used)


def test_an_environment_that_fails_far_ahead_ends_the_run(
    resolve: Resolve, host: PluginHost, tmp_path: Path, fake: Any
) -> None:
    with pytest.raises(TooManyFailuresError, match="out of memory"):
        start_run(resolve(*AHEAD, "envs.two-step.fail_every=1"), tmp_path / "run", host)


def test_slow_rollouts_are_cut_once_enough_have_finished_and_the_bias_is_told(
    resolve: Resolve, host: PluginHost, tmp_path: Path, fake: Any
) -> None:
    start_run(resolve(*AHEAD, *SLOW, "runs.small.rl.redundant_rollouts=1"), tmp_path / "run", host)
    assert all(len(step) >= 6 for step in trained(tmp_path / "run"))
    cut = [step.values for step in fake.STEPS if "rollout/cut" in step.values]
    assert cut
    assert min(step["rollout/cut_bias"] for step in cut) < 0


def test_the_tokens_of_all_steps_are_counted_once_however_often_the_run_stops(
    resolve: Resolve, host: PluginHost, tmp_path: Path, interrupt: Interrupt, fake: Any
) -> None:
    resolved = resolve(*AHEAD, *SLOW, "runs.small.rl.checkpoint_every=1")
    interrupt(resolved, tmp_path / "cut", host, 20)
    fake.STEPS.clear()
    resume_run(tmp_path / "cut", host)
    known = journal(tmp_path / "cut").known()
    per_step = {step.step: step.values["rollout/sampled_tokens"] for step in fake.STEPS}
    for step, ids in enumerate(trained(tmp_path / "cut")):
        if step in per_step:
            assert per_step[step] == sum(known[each].sampled_tokens for each in ids)
