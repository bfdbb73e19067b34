"""What the peers that share a credit make of rewards: failures, baselines, rewards of turns, lengths."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from tumbler.contracts.algorithm import Group, PlanState
from tumbler.contracts.environment import Task
from tumbler_algorithms.cispo.algorithm import CISPO
from tumbler_algorithms.cispo.settings import CISPOSettings
from tumbler_algorithms.grpo.algorithm import GRPO
from tumbler_algorithms.grpo.settings import GRPOSettings
from tumbler_algorithms.gspo.algorithm import GSPO
from tumbler_algorithms.gspo.settings import GSPOSettings
from tumbler_algorithms.ipa_token.algorithm import TokenIPA
from tumbler_algorithms.ipa_token.settings import TokenIPASettings
from tumbler_algorithms.ipa_trajectory.algorithm import TrajectoryIPA
from tumbler_algorithms.ipa_trajectory.settings import TrajectoryIPASettings
from tumbler_algorithms.tis.algorithm import TIS
from tumbler_algorithms.tis.settings import TISSettings
from tumbler_algorithms.topr.algorithm import TOPR
from tumbler_algorithms.topr.settings import TOPRSettings


def group(*trajectories):
    return Group(id="g", task_id="task", trajectories=trajectories)


@pytest.fixture
def pair(batches):
    """A success and a failure of three chunks each."""
    return group(batches.trajectory(1.0), batches.trajectory(0.0))


def test_gspo_and_cispo_have_grpos_advantage(pair):
    for divide in (True, False):
        expected = GRPO(GRPOSettings(divide_by_std=divide)).credit(pair)
        assert GSPO(GSPOSettings(divide_by_std=divide)).credit(pair) == expected
        assert CISPO(CISPOSettings(divide_by_std=divide)).credit(pair) == expected


def test_topr_has_rewards_of_either_sign_and_no_baseline(pair):
    assert TOPR(TOPRSettings()).credit(pair) == [[1.0] * 3, [-1.0] * 3]
    assert TOPR(TOPRSettings(failure_reward=None, baseline="mean")).credit(pair) == [[0.5] * 3, [-0.5] * 3]


def test_tis_has_the_baseline_that_is_chosen(pair):
    assert TIS(TISSettings(baseline="none", failure_reward=-0.5)).credit(pair) == [[1.0] * 3, [-0.5] * 3]
    assert TIS(TISSettings(baseline="leave-one-out")).credit(pair) == [[1.0] * 3, [-1.0] * 3]


def test_trajectory_level_ipa_has_the_reward_itself(pair):
    assert TrajectoryIPA(TrajectoryIPASettings()).credit(pair) == [[1.0] * 3, [0.0] * 3]
    assert TrajectoryIPA(TrajectoryIPASettings(failure_reward=-1.0)).credit(pair) == [[1.0] * 3, [-1.0] * 3]


def test_token_level_ipa_leaves_rewards_where_they_were_given(batches):
    record = batches.trajectory(1.0, turns=(0.25, 0.5, 0.0))
    failed = batches.trajectory(None, status="infra_failed", status_reason="gone")
    found = TokenIPA(TokenIPASettings(baseline="mean")).credit(group(record, failed, batches.trajectory(0.0)))
    assert found == [[0.25, 0.5, 0.5], [0.0] * 3, [0.0, 0.0, -0.5]]
    aborted = replace(record, chunks=(*record.chunks[:2], replace(record.chunks[2], trainable=False)))
    assert TokenIPA(TokenIPASettings()).credit(group(aborted)) == [[0.25, 1.5, 0.0]]


def test_the_length_penalty_grows_over_the_buffer_and_is_one_from_the_limit_on(batches):
    # Each chunk has 2 tokens; the limit is 8 and the buffer 4.
    records = [batches.trajectory(1.0, turns=(0.0,) * count) for count in (1, 2, 3, 4, 5)]
    found = GRPO(GRPOSettings(divide_by_std=False, length_limit=8, length_buffer=4)).credit(group(*records))
    penalties = [0.0, 0.0, 0.5, 1.0, 1.0]
    expected = [sum(penalties) / 5 - penalty for penalty in penalties]
    assert [each[0] for each in found] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("fields", [{"length_limit": 8}, {"length_buffer": 4}, {"length_limit": 8, "length_buffer": 9}])
def test_limit_and_buffer_go_together(fields):
    with pytest.raises(ValidationError, match="length_limit and length_buffer go together"):
        GRPOSettings(**fields)


def test_dynamic_sampling_refuses_groups_without_spread(batches, pair):
    flat, alone = group(*[batches.trajectory(0.0)] * 3), group(batches.trajectory(1.0))
    failed = batches.trajectory(None, status="infra_failed", status_reason="gone")
    picky, plain = GRPO(GRPOSettings(dynamic_sampling=True)), GRPO(GRPOSettings())
    refused = (flat, alone, group(*flat.trajectories, failed))
    assert {picky.reject_group(each) for each in refused} == {"all rewards are equal"}
    assert [picky.reject_group(pair), *(plain.reject_group(each) for each in refused)] == [""] * 4
    assert picky.reject_trajectory(failed) == ""


def test_a_plan_is_one_group_of_each_task():
    tasks = [Task(id=f"task-{index}", instruction="do") for index in range(2)]
    algorithm = GSPO(GSPOSettings(group_size=3, tasks_per_step=5, epochs=2, minibatches=4, old_policy="snapshot"))
    groups = algorithm.plan(tasks, PlanState(step=0, seed=0)).groups
    assert [(each.task, each.size, each.anchor) for each in groups] == [(task, 3, None) for task in tasks]
    rule = algorithm.update_rule
    assert (algorithm.tasks_per_step, rule.epochs, rule.minibatches, rule.old_policy) == (5, 2, 4, "snapshot")
