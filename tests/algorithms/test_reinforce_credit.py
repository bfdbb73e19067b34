"""REINFORCE's baselines and whitening, against slow references over all groups of a step."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumbler.contracts.algorithm import Group
from tumbler_algorithms.reinforce.algorithm import REINFORCE
from tumbler_algorithms.reinforce.settings import REINFORCESettings

steps = st.lists(st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=4), min_size=1, max_size=4)


def grouped(batches, rewards, **fields):
    """Groups of trajectories with the rewards; the number of chunks, of 2 tokens each, depends on the place."""
    return [
        Group(
            id=f"g{index}",
            task_id="task",
            trajectories=tuple(
                batches.trajectory(reward, turns=(0.5,) * (1 + (index + place) % 3), **fields)
                for place, reward in enumerate(group)
            ),
        )
        for index, group in enumerate(rewards)
    ]


def credit(groups, **fields):
    return REINFORCE(REINFORCESettings(**fields)).credit_batch(groups)


def firsts(credited):
    """The credit of each trajectory, which all its chunks must share."""
    assert all(len(set(each)) == 1 for group in credited for each in group)
    return [each[0] for group in credited for each in group]


def near(values, expected):
    return values == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(rewards=steps)
def test_without_a_baseline_the_credit_is_the_reward(batches, rewards):
    assert firsts(credit(grouped(batches, rewards))) == [reward for group in rewards for reward in group]


@given(rewards=steps)
def test_rloo_takes_the_mean_of_the_others(batches, rewards):
    found = firsts(credit(grouped(batches, rewards), baseline="leave-one-out"))
    expected = [
        reward - statistics.fmean(group[:place] + group[place + 1 :]) if len(group) > 1 else 0.0
        for group in rewards
        for place, reward in enumerate(group)
    ]
    assert near(found, expected)


@given(rewards=steps)
def test_group_and_batch_means_are_over_the_group_and_over_the_step(batches, rewards):
    groups = grouped(batches, rewards)
    everything = [reward for group in rewards for reward in group]
    within = [reward - statistics.fmean(group) for group in rewards for reward in group]
    assert near(firsts(credit(groups, baseline="group-mean")), within)
    across = [reward - statistics.fmean(everything) for reward in everything]
    assert near(firsts(credit(groups, baseline="batch-mean")), across)


@pytest.mark.parametrize("baseline", ["none", "group-mean"])
@pytest.mark.parametrize("whiten", ["trajectories", "tokens"])
@given(rewards=steps)
def test_whitening_is_over_the_whole_step(batches, baseline, whiten, rewards):
    groups = grouped(batches, rewards)
    plain = firsts(credit(groups, baseline=baseline))
    repeats = [len(each.chunks) * 2 if whiten == "tokens" else 1 for group in groups for each in group.trajectories]
    drawn = [value for value, count in zip(plain, repeats, strict=True) for _ in range(count)]
    mean, deviation = statistics.fmean(drawn), statistics.pstdev(drawn)
    expected = [(value - mean) / (deviation + 1e-6) if max(plain) > min(plain) else 0.0 for value in plain]
    assert near(firsts(credit(groups, baseline=baseline, whiten=whiten)), expected)


def test_a_step_without_spread_has_exactly_no_credit(batches):
    for fields in ({"baseline": "batch-mean"}, {"whiten": "tokens"}, {"baseline": "leave-one-out"}):
        assert firsts(credit(grouped(batches, [[0.1, 0.1], [0.1]]), **fields)) == [0.0] * 3


def test_returns_that_differ_by_rounding_alone_are_not_blown_up(batches):
    groups = grouped(batches, [[0.1 + 0.2, 0.3], [0.3]])
    for whiten in ("trajectories", "tokens"):
        found = firsts(credit(groups, whiten=whiten))
        assert 0 < max(map(abs, found)) < 1e-9


def test_turn_rewards_are_part_of_the_return_if_asked_for(batches):
    groups = grouped(batches, [[1.0, 1.0]])
    assert firsts(credit(groups)) == [1.0, 1.0]
    assert firsts(credit(groups, turn_rewards="add")) == [1.5, 2.0]
    assert firsts(credit(groups, turn_rewards="only")) == [0.5, 1.0]


def test_trajectories_without_a_verdict_and_replayed_chunks_take_no_part(batches):
    failed = batches.trajectory(None, status="infra_failed", status_reason="gone")
    replayed = batches.trajectory(1.0, replayed=2)
    group = Group(id="g", task_id="task", trajectories=(failed, replayed, batches.trajectory(0.0)))
    for fields in ({"baseline": "batch-mean"}, {"baseline": "group-mean"}):
        assert credit([group], **fields) == [[[0.0] * 3, [0.0, 0.0, 0.5], [-0.5] * 3]]
    # 2 tokens count of the one, and 6 of the other.
    (_, one, other) = credit([group], whiten="tokens")[0]
    deviation = math.sqrt(3 / 16) + 1e-6
    assert near([one[2], other[0]], [0.75 / deviation, -0.25 / deviation])


def test_a_group_alone_is_credited_as_a_step_of_its_own(batches):
    (group,) = grouped(batches, [[1.0, 0.0, 0.0]])
    algorithm = REINFORCE(REINFORCESettings(whiten="tokens"))
    assert algorithm.credit(group) == algorithm.credit_batch([group])[0]
