"""Conversations for supervised fine-tuning: every reply at most once, in its context, with an honest weight."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from tests.core.formats.records import rich_trajectory, sampled, trajectories

from tumbler.errors import TrajectoryError
from tumbler.formats import finished, to_chatml, to_conversations, to_sharegpt
from tumbler.testing import sample_trajectory
from tumbler.trajectory import Segment, Trajectory


def told(trajectory: Trajectory, **options) -> list[list[tuple[str, int]]]:
    return [[(turn.reply, turn.weight) for turn in each.turns] for each in to_conversations(trajectory, **options)]


def branched(cause: str) -> Trajectory:
    """An episode whose second segment goes on from after the first reply of the first one."""
    return replace(
        rich_trajectory(),
        segments=(
            Segment(id=0, token_ids=(1, 2, 3, 4)),
            Segment(id=1, token_ids=(1, 2, 3, 5, 6), parent=0, cause=cause),
        ),
        chunks=(
            sampled(0, 1, 2, text="a"),
            sampled(0, 3, 4, text="b"),
            sampled(1, 3, 4, text="c"),
            sampled(1, 4, 5, text="d"),
        ),
    )


def test_chatml_holds_the_task_the_replies_and_what_was_observed() -> None:
    (conversation,) = to_conversations(rich_trajectory(), system="Be brief.")
    assert to_chatml(conversation) == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Find it.\na room"},
            {"role": "assistant", "content": "one", "weight": 0},
            {"role": "user", "content": "two"},
            {"role": "assistant", "content": "call", "weight": 1},
        ]
    }


def test_sharegpt_takes_turns_between_human_and_gpt() -> None:
    (conversation,) = to_conversations(rich_trajectory())
    assert to_sharegpt(conversation) == {
        "id": "3-rl/0/7",
        "conversations": [
            {"from": "human", "value": "Find it.\na room"},
            {"from": "gpt", "value": "one", "weight": 0},
            {"from": "human", "value": "two"},
            {"from": "gpt", "value": "call", "weight": 1},
        ],
    }


def test_replies_after_a_rewrite_and_of_other_agents_are_left_out() -> None:
    assert told(rich_trajectory()) == [[("one", 0), ("call", 1)]]


def test_replies_after_a_rewrite_can_be_taken_for_answers_to_the_unedited_log() -> None:
    assert told(rich_trajectory(), through_rewrites=True) == [[("one", 0), ("call", 1), ("done", 0)]]


@pytest.mark.parametrize("cause", ["retry", "parallel"])
def test_branches_are_conversations_of_their_own_and_share_no_weight(cause: str) -> None:
    assert told(branched(cause)) == [[("a", 1), ("b", 1)], [("a", 0), ("c", 1), ("d", 1)]]


def test_the_conversation_goes_on_when_the_tools_change() -> None:
    assert told(branched("tools")) == [[("a", 1), ("b", 1), ("c", 1), ("d", 1)]]


def test_what_a_strategy_asks_of_the_policy_is_no_part_of_the_conversation() -> None:
    assert told(branched("strategy"), through_rewrites=True) == [[("a", 1), ("b", 1)]]


@pytest.mark.parametrize(
    ("changes", "weight"),
    [
        ({}, 1),
        ({"errored": True}, 0),
        ({"relevant": False}, 0),
        ({"trainable": False}, 0),
        ({"sampled": False, "trainable": False, "behaviour_logprobs": (), "policy_version": None}, 1),
        (
            {
                "sampled": False,
                "trainable": False,
                "replayed": True,
                "behaviour_logprobs": (),
                "policy_version": None,
            },
            0,
        ),
    ],
)
def test_the_weight_is_that_of_supervised_training(changes: dict, weight: int) -> None:
    trajectory = branched("tools")
    chunks = (replace(trajectory.chunks[0], **changes), *trajectory.chunks[1:])
    assert told(replace(trajectory, chunks=chunks))[0][0] == ("a", weight)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trajectories())
def test_no_reply_counts_twice_and_every_line_is_unicode_with_turns_in_order(trajectory: Trajectory) -> None:
    trajectory = replace(trajectory, details={"instruction": "x"})
    try:
        conversations = to_conversations(trajectory, through_rewrites=True)
    except TrajectoryError:
        assert not any(chunk.segment == 0 for chunk in trajectory.chunks)
        return
    weights = Counter(turn.chunk for each in conversations for turn in each.turns for _ in range(turn.weight))
    assert set(weights.values()) <= {1}
    for conversation in conversations:
        json.dumps([to_chatml(conversation), to_sharegpt(conversation)], ensure_ascii=False).encode()
        places = [turn.chunk for turn in conversation.turns]
        assert places == sorted(set(places))
        speakers = [turn["from"] for turn in to_sharegpt(conversation)["conversations"]]
        assert speakers == ["human", "gpt"] * len(places)


def test_a_trajectory_without_an_instruction_has_no_conversation() -> None:
    with pytest.raises(TrajectoryError, match=r"neither details\.instruction nor"):
        to_conversations(sample_trajectory())


def test_a_trajectory_without_a_reply_has_no_conversation() -> None:
    silent = replace(sample_trajectory(turns=0, reward=None), details={"instruction": "x"})
    with pytest.raises(TrajectoryError, match="no reply of its main agent"):
        to_conversations(silent)


def test_only_what_ended_by_itself_and_was_judged_is_finished() -> None:
    trajectory = rich_trajectory()
    assert finished(trajectory)
    assert not finished(replace(trajectory, status="truncated"))
    assert not finished(replace(trajectory, status="infra_failed", reward=None))
