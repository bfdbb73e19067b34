"""Which rollouts IPA refuses: illegal calls, cut-off episodes, groups without spread."""

from dataclasses import replace

import pytest

from tumbler.contracts.algorithm import FilteringAlgorithm, Group
from tumbler.contracts.values import ToolCall
from tumbler_algorithms.ipa.algorithm import IPA
from tumbler_algorithms.ipa.settings import IPASettings


def make(**settings):
    return IPA(IPASettings(filter=settings))


def episode(batches, turns, *, replayed=0, **fields):
    """A rollout of turns: `.` went well, a letter is an illegal call of that name, `!` is malformed."""
    record = batches.trajectory(turns=(0.0,) * len(turns), replayed=replayed, **fields)
    chunks = [
        replace(
            chunk,
            text=f"says {turn}",
            errored=turn != ".",
            tool_calls=() if turn == "!" else (ToolCall(name=turn, arguments={"b": 1, "a": 2}),),
        )
        for chunk, turn in zip(record.chunks, turns, strict=True)
    ]
    return replace(record, chunks=tuple(chunks))


def group_of(batches, *rewards):
    return Group(id="g", task_id="t", trajectories=tuple(batches.trajectory(reward) for reward in rewards))


def test_nothing_is_refused_by_default(batches):
    algorithm = IPA(IPASettings())
    assert isinstance(algorithm, FilteringAlgorithm)
    assert algorithm.reject_trajectory(episode(batches, "aaaa!!!!", status="truncated")) == ""
    assert algorithm.reject_group(group_of(batches, 0.0, 0.0)) == ""


@pytest.mark.parametrize(
    ("turns", "reason"),
    [("ab.!a", ""), ("..ab!", "3 illegal calls in a row"), ("a!b.", "3 illegal calls in a row"), ("", "")],
)
def test_a_row_of_illegal_calls_is_refused(batches, turns, reason):
    assert make(illegal_calls=3).reject_trajectory(episode(batches, turns)) == reason


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ("a.b.a.", ""),
        ("a.a.ba", "the same illegal call 3 times"),
        ("!.!.!", "the same illegal call 3 times"),
        ("abc.abc", ""),
        ("....", ""),
    ],
)
def test_an_illegal_call_that_comes_again_and_again_is_refused(batches, turns, reason):
    assert make(repeated_illegal=3).reject_trajectory(episode(batches, turns)) == reason


def test_calls_are_the_same_whatever_the_order_of_their_arguments(batches):
    record = episode(batches, "aa")
    swapped = ToolCall(name="a", arguments={"a": 2, "b": 1})
    other = ToolCall(name="a", arguments={"a": 2, "b": 2})
    for call, reason in ((swapped, "the same illegal call 2 times"), (other, "")):
        chunks = (record.chunks[0], replace(record.chunks[1], tool_calls=(call,)))
        assert make(repeated_illegal=2).reject_trajectory(replace(record, chunks=chunks)) == reason


def test_what_the_expert_did_wrong_in_replayed_turns_is_not_held_against_the_policy(batches):
    algorithm = make(illegal_calls=2, repeated_illegal=2)
    assert algorithm.reject_trajectory(episode(batches, "aaa.", replayed=3)) == ""
    assert algorithm.reject_trajectory(episode(batches, "aaa.", replayed=1)) == "2 illegal calls in a row"


def test_rollouts_that_a_limit_cut_off_are_refused(batches):
    cut = episode(batches, "..", status="truncated", status_reason="turn_limit")
    assert make(truncated=True).reject_trajectory(cut) == "cut off: turn_limit"
    assert make(truncated=True).reject_trajectory(episode(batches, "..")) == ""


@pytest.mark.parametrize(
    ("rewards", "reason"),
    [
        ((1.0, 1.0), "no spread of rewards"),
        ((0.0, 0.0, 0.0), "no spread of rewards"),
        ((0.0, 1.0), ""),
        ((0.3, 0.7), ""),
        ((1.0,), ""),
        ((), ""),
    ],
)
def test_groups_without_spread_are_refused(batches, rewards, reason):
    assert make(flat_groups=True).reject_group(group_of(batches, *rewards)) == reason
