"""GiGPO's two advantages: among episodes, and among chunks that began in equal states."""

import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumbler.contracts.algorithm import Group
from tumbler.contracts.values import ToolCall
from tumbler_algorithms.gigpo.algorithm import GiGPO
from tumbler_algorithms.gigpo.settings import GiGPOSettings
from tumbler_algorithms.grpo.algorithm import GRPO
from tumbler_algorithms.grpo.settings import GRPOSettings


def credit(*trajectories, **fields):
    group = Group(id="g", task_id="task", trajectories=trajectories)
    return GiGPO(GiGPOSettings(**{"divide_by_std": False, **fields})).credit(group)


def walk(batches, reward, *shown, turns=None):
    """A trajectory whose chunks were answered so; what answers the last one is seen by nobody."""
    record = batches.trajectory(reward, turns=turns or (0.0,) * len(shown))
    chunks = tuple(replace(chunk, observation=text) for chunk, text in zip(record.chunks, shown, strict=True))
    return replace(record, chunks=chunks)


def near(found, expected):
    return [value for each in found for value in each] == pytest.approx(
        [value for each in expected for value in each], rel=1e-9, abs=1e-9
    )


def test_chunks_that_began_in_one_state_are_compared_by_their_discounted_returns(batches):
    # Both begin alike; one reaches the key at once, the other by way of the wall.
    quick = walk(batches, 1.0, "key", "end")
    slow = walk(batches, 0.0, "wall", "key", "end")
    found = credit(quick, slow, gamma=0.5, step_weight=2.0)
    # Returns: quick 0.5, 1; slow 0, 0, 0. Equal states: the two beginnings, and the two after "key".
    assert near(found, [[0.5 + 2 * 0.25, 0.5 + 2 * 0.5], [-0.5 - 2 * 0.25, -0.5, -0.5 - 2 * 0.5]])


def test_a_state_visited_again_by_the_same_trajectory_is_compared_too(batches):
    once, more = walk(batches, 1.0, "room", "room", "end"), walk(batches, 1.0, "hall", "end", "end")
    found = credit(once, more, gamma=0.5)
    # Equal returns at the beginning and of the episodes; "room" is left once with 0.5 to come, and once with 1.
    assert near(found, [[0.0, -0.25, 0.25], [0.0, 0.0, 0.0]])


def test_by_history_only_equal_tokens_are_one_state(batches):
    quick, slow = walk(batches, 1.0, "key", "end"), walk(batches, 0.0, "key", "end")
    assert near(credit(quick, slow, gamma=0.5, state="history"), [[0.75, 1.0], [-0.75, -1.0]])
    (segment,) = slow.segments
    # The second chunk begins after other tokens than the quick one's.
    other = replace(slow, segments=(replace(segment, token_ids=(*segment.token_ids[:2], 99, *segment.token_ids[3:])),))
    assert near(credit(quick, other, gamma=0.5), [[0.75, 1.0], [-0.75, -1.0]])
    assert near(credit(quick, other, gamma=0.5, state="history"), [[0.75, 0.5], [-0.75, -0.5]])


def called(record, *names):
    """The same walk, each chunk a call of that name."""
    chunks = tuple(
        replace(chunk, tool_calls=(ToolCall(name=name, arguments={"b": 1, "a": 2}),))
        for chunk, name in zip(record.chunks, names, strict=True)
    )
    return replace(record, chunks=chunks)


def test_calls_that_are_answered_alike_lead_to_one_state_only_if_they_are_the_same_call(batches):
    quick = called(walk(batches, 1.0, "(no output)", "end"), "left", "go")
    slow = called(walk(batches, 0.0, "(no output)", "end"), "right", "go")
    same = called(slow, "left", "go")
    assert near(credit(quick, slow, gamma=0.5), [[0.75, 0.5], [-0.75, -0.5]])
    assert near(credit(quick, same, gamma=0.5), [[0.75, 1.0], [-0.75, -1.0]])
    for state in ("observation", "history"):
        assert near(credit(quick, slow, gamma=0.5, state=state), [[0.75, 1.0], [-0.75, -1.0]])


def test_an_answer_without_a_word_leaves_the_state_to_all_tokens_before(batches):
    quick, slow = (called(walk(batches, reward, " \n", "end"), "go", "go") for reward in (1.0, 0.0))
    (segment,) = slow.segments
    other = replace(slow, segments=(replace(segment, token_ids=(*segment.token_ids[:2], 99, *segment.token_ids[3:])),))
    assert near(credit(quick, slow, gamma=0.5), [[0.75, 1.0], [-0.75, -1.0]])
    assert near(credit(quick, other, gamma=0.5), [[0.75, 0.5], [-0.75, -0.5]])
    assert near(credit(quick, other, gamma=0.5, state="observation"), [[0.75, 1.0], [-0.75, -1.0]])


def test_an_episode_without_chunks_counts_by_its_final_reward_if_final_rewards_count(batches):
    empty, walked = batches.trajectory(1.0, turns=()), walk(batches, 0.0, "end", turns=(0.5,))
    assert near(credit(empty, walked, step_weight=0.0), [[], [-0.25]])
    assert near(credit(empty, walked, step_weight=0.0, turn_rewards="only"), [[], [0.25]])
    assert near(credit(empty, walked, step_weight=0.0, turn_rewards="ignore"), [[], [-0.5]])


def test_what_another_agent_was_shown_is_no_state_of_this_one(batches):
    def helped(reward, shown):
        record = batches.trajectory(reward, turns=(0.0,) * 4, segments=2)
        main, helper = record.segments
        chunks = (record.chunks[0], record.chunks[2], record.chunks[1])
        chunks = tuple(replace(each, observation=text) for each, text in zip(chunks, ("same", shown, "x"), strict=True))
        return replace(record, segments=(main, replace(helper, agent_id="helper")), chunks=chunks)

    # Main's second chunk began where main was shown "same", whatever the helper between was shown.
    found = credit(helped(1.0, "one"), helped(0.0, "two"), gamma=1.0)
    assert near(found, [[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])


@given(rewards=st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=6))
def test_without_the_step_advantage_it_is_grpo(batches, rewards):
    records = [walk(batches, reward, *"abc"[: 1 + index % 3]) for index, reward in enumerate(rewards)]
    group = Group(id="g", task_id="task", trajectories=tuple(records))
    for divide in (True, False):
        expected = GRPO(GRPOSettings(divide_by_std=divide)).credit(group)
        assert near(credit(*records, divide_by_std=divide, step_weight=0.0), expected)


@given(rewards=st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=5), data=st.data())
def test_the_step_advantage_agrees_with_a_slow_reference(batches, rewards, data):
    turns = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 0.5])), min_size=1, max_size=4)
    paths = [data.draw(turns) for _ in rewards]
    records = [
        walk(batches, reward, *[shown for shown, _ in path], turns=tuple(gain for _, gain in path))
        for reward, path in zip(rewards, paths, strict=True)
    ]
    steps = []
    for place, (reward, path) in enumerate(zip(rewards, paths, strict=True)):
        gains = [gain for _, gain in path]
        gains[-1] += reward
        states = ["", *[shown for shown, _ in path[:-1]]]
        steps += [
            (place, states[k], sum(0.9 ** (i - k) * gains[i] for i in range(k, len(gains)))) for k in range(len(gains))
        ]
    totals = [reward + sum(gain for _, gain in path) for reward, path in zip(rewards, paths, strict=True)]
    expected = [[] for _ in rewards]
    for place, state, gain in steps:
        alike = [other for _, same, other in steps if same == state]
        expected[place].append(totals[place] - statistics.fmean(totals) + gain - statistics.fmean(alike))
    assert near(credit(*records, gamma=0.9), expected)


def test_replayed_chunks_and_trajectories_without_a_verdict_take_no_part(batches):
    failed = replace(walk(batches, None, "key", "end"), status="infra_failed", status_reason="gone")
    replayed = walk(batches, 0.0, "key", "end")
    replayed = replace(
        replayed, chunks=(replace(replayed.chunks[0], replayed=True, trainable=False), replayed.chunks[1])
    )
    good = walk(batches, 1.0, "key", "end")
    found = credit(good, failed, replayed, gamma=0.5)
    assert near(found, [[0.5, 1.0], [0.0, 0.0], [0.0, -1.0]])


def test_episodes_without_spread_have_exactly_no_advantage(batches):
    assert credit(walk(batches, 1.0, "a"), walk(batches, 1.0, "a"), divide_by_std=True) == [[0.0], [0.0]]
