"""GRPO's group-relative advantage, plan and settings."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tumbler.contracts.algorithm import Group, PlanState
from tumbler.contracts.environment import Task
from tumbler_algorithms.grpo.algorithm import GRPO
from tumbler_algorithms.grpo.settings import GRPOSettings
from tumbler_algorithms.ipa.settings import IPASettings


def credit(*trajectories, **fields):
    group = Group(id="g", task_id="task", trajectories=trajectories)
    return GRPO(GRPOSettings(**fields)).credit(group)


@given(rewards=st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=8))
def test_the_advantage_is_the_reward_against_the_groups_mean_and_deviation(batches, rewards):
    records = [batches.trajectory(reward, turns=(0.0,) * (1 + index % 3)) for index, reward in enumerate(rewards)]
    mean = sum(rewards) / len(rewards)
    spread = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / (len(rewards) - 1))
    for divide in (True, False):
        scale = spread + 1e-6 if divide else 1.0
        expected = [[(reward - mean) / scale] * (1 + index % 3) for index, reward in enumerate(rewards)]
        found = credit(*records, divide_by_std=divide)
        assert [len(each) for each in found] == [len(each) for each in expected]
        assert all(one == pytest.approx(two, rel=1e-9, abs=1e-9) for one, two in zip(found, expected, strict=True))


@pytest.mark.parametrize("divide", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_group_without_spread_has_exactly_no_advantage(batches, divide, size):
    assert credit(*[batches.trajectory(0.1)] * size, divide_by_std=divide) == [[0.0] * 3] * size


def test_the_group_counts_trajectories_and_not_their_segments(batches):
    whole = [batches.trajectory(reward, turns=(0.0,) * 4) for reward in (1.0, 0.0, 0.0)]
    split = [batches.trajectory(1.0, turns=(0.0,) * 4, segments=4), *whole[1:]]
    assert credit(*whole) == credit(*split)


def test_replayed_chunks_have_no_advantage(batches):
    first, _ = credit(batches.trajectory(1.0, replayed=2), batches.trajectory(0.0), divide_by_std=False)
    assert first == [0.0, 0.0, 0.5]


def test_trajectories_without_a_verdict_take_no_part(batches):
    good, bad = batches.trajectory(1.0), batches.trajectory(0.0)
    failed = batches.trajectory(None, status="infra_failed", status_reason="gone")
    found = credit(good, failed, bad)
    assert found[1] == [0.0] * 3
    assert [found[0], found[2]] == credit(good, bad)


def test_the_plan_is_one_whole_group_for_each_task():
    tasks = [Task(id=f"task-{index}", instruction="do") for index in range(3)]
    algorithm = GRPO(GRPOSettings(group_size=5, tasks_per_step=3, epochs=2, minibatches=4, old_policy="behaviour"))
    groups = algorithm.plan(tasks, PlanState(step=0, seed=0)).groups
    assert [(group.task, group.size, group.anchor) for group in groups] == [(task, 5, None) for task in tasks]
    assert (algorithm.tasks_per_step, algorithm.wants_experts) == (3, False)
    rule = algorithm.update_rule
    assert (rule.old_policy, rule.epochs, rule.minibatches) == ("behaviour", 2, 4)


def test_a_penalty_on_divergence_is_from_the_initial_policy_unless_said_otherwise():
    assert GRPOSettings(kl_weight=0.1).kl_reference == "initial"
    assert GRPO(GRPOSettings(kl_weight=0.1)).update_rule.reference


@pytest.mark.parametrize("settings", [GRPOSettings, IPASettings])
def test_a_penalty_on_divergence_from_the_policy_in_training_itself_is_refused(settings):
    with pytest.raises(ValidationError, match='kl_reference = "old" does nothing'):
        settings(kl_weight=0.1, kl_reference="old")
    for way_out in (
        {"epochs": 2},
        {"minibatches": 2},
        {"old_policy": "snapshot"},
        {"old_policy": "behaviour"},
        {"kl_reference": "behaviour"},
        {"kl_weight": 0.0},
    ):
        settings(**{"kl_weight": 0.1, "kl_reference": "old", **way_out})


@pytest.mark.parametrize("correction", [{"mask": "chunk"}, {"weight": "token"}])
def test_a_correction_of_a_gap_that_is_never_seen_is_refused(correction):
    with pytest.raises(ValidationError, match=r'does nothing with old_policy = "behaviour"'):
        GRPOSettings(old_policy="behaviour", correction=correction)
    GRPOSettings(old_policy="snapshot", correction=correction)


@pytest.mark.parametrize(
    "fields",
    [{"group_size": 1}, {"clip_low": 1.5}, {"normalisation": "constant"}, {"constant_length": 100}, {"kl_weight": -1}],
)
def test_settings_that_make_no_sense_are_refused(fields):
    with pytest.raises(ValidationError):
        GRPOSettings(**fields)
