"""Eq. 7: the return of each chunk."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tumbler.contracts.algorithm import Group
from tumbler.trajectory import verify_trajectory
from tumbler_algorithms.ipa.algorithm import IPA
from tumbler_algorithms.ipa.settings import IPASettings

rewards = st.floats(-5, 5)


def credit(*trajectories, **fields):
    group = Group(id="g", task_id="task", trajectories=trajectories)
    return IPA(IPASettings(**fields)).credit(group)


def near(values, expected):
    return values == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_builder_makes_valid_records(batches):
    verify_trajectory(batches.trajectory(turns=(0, 1, 0, 2, 0), segments=2, replayed=2))


@given(gamma=st.floats(0.1, 1.0), chunks=st.integers(1, 12), reward=rewards, segments=st.integers(1, 3))
def test_the_final_reward_is_discounted_from_the_last_chunk_across_segments(batches, gamma, chunks, reward, segments):
    record = batches.trajectory(reward, turns=(0.0,) * chunks, segments=min(segments, chunks))
    (worth,) = credit(record, gamma=gamma)
    assert near(worth, [gamma ** (chunks - k) * reward for k in range(1, chunks + 1)])
    assert worth[-1] == reward


@given(gamma=st.floats(0.1, 1.0), turns=st.lists(rewards, min_size=1, max_size=10), reward=rewards)
def test_turn_rewards_make_the_discounted_sum_of_what_follows(batches, gamma, turns, reward):
    record = batches.trajectory(reward, turns=tuple(turns))

    def reference(turns):
        return [sum(gamma ** (i - k) * turns[i] for i in range(k, len(turns))) for k in range(len(turns))]

    with_final = [*turns[:-1], turns[-1] + reward]
    assert near(credit(record, gamma=gamma)[0], reference(with_final))
    assert near(credit(record, gamma=gamma, turn_rewards="only")[0], reference(turns))
    assert near(credit(record, gamma=gamma, turn_rewards="ignore")[0], reference([0.0] * (len(turns) - 1) + [reward]))


def test_a_reward_in_the_middle_of_a_trajectory_is_not_lost(batches):
    (worth,) = credit(batches.trajectory(0.0, turns=(0, 0, 1, 0)), gamma=0.5)
    assert worth == [0.25, 0.5, 1.0, 0.0]


def test_splitting_a_trajectory_into_segments_changes_nothing(batches):
    one, three = (batches.trajectory(turns=(0,) * 6, segments=segments) for segments in (1, 3))
    assert credit(one) == credit(three)


def test_replayed_chunks_have_no_credit_and_leave_that_of_the_others_alone(batches):
    whole, anchored = credit(batches.trajectory(turns=(0,) * 4), batches.trajectory(turns=(0,) * 4, replayed=2))
    assert anchored == [0.0, 0.0, *whole[2:]]


@pytest.mark.parametrize(
    ("imitation", "weights"), [("uniform", [1.0, 1.0, 1.0]), ("discounted", [0.0625, 0.125, 0.25])]
)
@pytest.mark.parametrize("reward", [-1.0, 0.0, 1.0])
def test_replayed_chunks_weigh_in_the_imitation_term_and_nowhere_else(batches, imitation, weights, reward):
    records = [batches.trajectory(reward, turns=(0, 1, 0, 0, 2), replayed=3), batches.trajectory(1.0)]
    fields = {"gamma": 0.5, "baseline": "mean", "imitation_credit": imitation}
    without, with_it = credit(*records, **fields), credit(*records, imitation_weight=0.1, **fields)
    assert without[0][:3] == [0.0] * 3
    assert with_it[0][:3] == weights
    assert (with_it[0][3:], with_it[1]) == (without[0][3:], without[1])


def test_chunks_that_are_neither_trained_nor_replayed_have_no_credit(batches):
    record = batches.trajectory(1.0, turns=(0, 0, 0))
    left_out = replace(record.chunks[1], trainable=False)
    record = replace(record, chunks=(record.chunks[0], left_out, record.chunks[2]))
    assert credit(record, gamma=0.5, imitation_weight=1.0) == [[0.25, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("reward", "status"), [(None, "infra_failed"), (1.0, "dropped"), (-1.0, "dropped"), (None, "completed")]
)
def test_a_trajectory_without_a_verdict_has_no_credit_and_no_part_in_the_baseline(batches, reward, status):
    unjudged = batches.trajectory(reward, status=status, status_reason="because", turns=(1, 1))
    good, bad = batches.trajectory(1.0), batches.trajectory(0.0)
    assert credit(good, unjudged, bad, failure_reward=-1.0)[1] == [0.0, 0.0]
    with_it, without = credit(good, unjudged, bad, baseline="mean"), credit(good, bad, baseline="mean")
    assert [with_it[0], with_it[2]] == without


@pytest.mark.parametrize("status", ["truncated", "policy_violation"])
def test_a_verdict_counts_for_cut_off_and_rule_breaking_episodes_too(batches, status):
    assert credit(batches.trajectory(-1.0, status=status), gamma=1.0) == [[-1.0] * 3]


def test_failures_keep_the_environments_reward_unless_one_is_set(batches):
    zero, minus = batches.trajectory(0.0), batches.trajectory(-3.0)
    assert credit(zero, minus, gamma=1.0) == [[0.0] * 3, [-3.0] * 3]
    assert credit(zero, minus, gamma=1.0, failure_reward=-0.2) == [[-0.2] * 3, [-0.2] * 3]


def test_an_unsuccessful_verdict_is_a_failure_and_a_successful_one_is_not(batches):
    failed, passed = batches.trajectory(1.0, success=False), batches.trajectory(1.0)
    assert credit(failed, passed, gamma=1.0, failure_reward=-1.0) == [[-1.0] * 3, [1.0] * 3]


@given(final=st.lists(rewards, min_size=2, max_size=6))
def test_baselines_agree_with_their_definitions(batches, final):
    records = [batches.trajectory(reward, turns=(0.0,)) for reward in final]
    n, mean = len(final), sum(final) / len(final)
    spread = math.sqrt(sum((reward - mean) ** 2 for reward in final) / (n - 1))

    def flat(baseline):
        return [value for (value,) in credit(*records, baseline=baseline)]

    assert near(flat("none"), final)
    assert near(flat("mean"), [reward - mean for reward in final])
    others = [sum(final[:i] + final[i + 1 :]) / (n - 1) for i in range(n)]
    assert near(flat("leave-one-out"), [reward - other for reward, other in zip(final, others, strict=True)])
    assert flat("whiten") == pytest.approx([(reward - mean) / (spread + 1e-6) for reward in final], abs=1e-6)


@pytest.mark.parametrize("baseline", ["mean", "leave-one-out", "whiten"])
def test_a_group_without_spread_has_exactly_no_credit_under_a_baseline(batches, baseline):
    assert credit(*[batches.trajectory(0.1)] * 3, baseline=baseline) == [[0.0] * 3] * 3
    assert credit(batches.trajectory(0.7), baseline=baseline) == [[0.0] * 3]


def test_an_episode_that_ended_before_the_first_chunk_has_no_credits(batches):
    assert credit(batches.trajectory(0.0, turns=())) == [[]]


@pytest.mark.parametrize(
    "fields",
    [
        {"gamma": 0.0},
        {"gamma": 1.1},
        {"failure_reward": 0.5},
        {"mismatch_threshold": 0.9},
        {"anchors": {"share": 2}},
        {"normalisation": "constant"},
        {"constant_length": 9},
    ],
)
def test_settings_out_of_range_are_refused(fields):
    with pytest.raises(ValidationError):
        IPASettings(**fields)


def test_the_update_rule_asks_for_what_the_loss_reads():
    def asked(**fields):
        rule = IPA(IPASettings(**fields)).update_rule
        return rule.reference, rule.entropy, rule.values

    assert asked() == (False, False, False)
    assert asked(kl_weight=0.1) == (True, False, False)
    assert asked(kl_weight=0.1, kl_reference="behaviour", entropy_weight=0.1) == (False, True, False)
