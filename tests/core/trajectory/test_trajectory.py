"""The trajectory record: its rules are kept or named, and its JSON form gives back an equal record."""

import json
from dataclasses import replace

import pytest

from tumbler.contracts.values import ToolCall
from tumbler.errors import TrajectoryError
from tumbler.trajectory import (
    AnchorRef,
    Chunk,
    Component,
    Header,
    Segment,
    Trajectory,
    trajectory_from_json,
    trajectory_to_json,
    verify_trajectory,
)


@pytest.fixture
def trajectory() -> Trajectory:
    component = Component(id="c", version="1", settings_hash="0")
    return Trajectory(
        header=Header(
            id="t",
            task="k",
            env=component,
            agent=component,
            context=(component,),
            anchor=AnchorRef(expert="e", chunk=1),
        ),
        segments=(
            Segment(id=0, token_ids=(1, 2, 3, 4, 5, 6)),
            Segment(id=1, token_ids=(7, 8), parent=0, cause="rewrite"),
        ),
        chunks=(
            Chunk(segment=0, start=1, end=2, sampled=False, replayed=True, trainable=False),
            Chunk(
                segment=0,
                start=3,
                end=5,
                behaviour_logprobs=(-0.5, -1.0),
                policy_version=3,
                tool_calls=(ToolCall(name="shell", arguments={"command": "ls"}),),
                observation="a",
            ),
            Chunk(segment=1, start=1, end=2, behaviour_logprobs=(-0.1,), policy_version=3),
        ),
        reward=1.0,
        success=True,
    )


def with_chunk(trajectory: Trajectory, index: int, **changes: object) -> Trajectory:
    chunks = list(trajectory.chunks)
    chunks[index] = replace(chunks[index], **changes)  # type: ignore[arg-type]  # the cases choose the fields
    return replace(trajectory, chunks=tuple(chunks))


def test_a_record_that_keeps_the_rules_passes(trajectory: Trajectory) -> None:
    verify_trajectory(trajectory)


def test_json_gives_back_an_equal_record(trajectory: Trajectory) -> None:
    assert trajectory_from_json(json.loads(json.dumps(trajectory_to_json(trajectory)))) == trajectory


def test_json_of_something_else_is_refused() -> None:
    with pytest.raises(TrajectoryError, match="not a trajectory record"):
        trajectory_from_json({"header": {}})


@pytest.mark.parametrize(
    ("index", "changes", "message"),
    [
        (1, {"start": 1}, "overlaps"),
        (1, {"end": 9}, "covers 3..9"),
        (1, {"end": 3}, "covers 3..3"),
        (1, {"segment": 5}, "does not exist"),
        (1, {"behaviour_logprobs": (-0.5,)}, "1 log-probabilities for 2 tokens"),
        (1, {"behaviour_logprobs": (-0.5, float("nan"))}, "not finite"),
        (1, {"behaviour_logprobs": (-0.5, 0.5)}, "above 0"),
        (1, {"policy_version": None}, "no policy version"),
        (0, {"trainable": True}, "did not sample it"),
        (1, {"replayed": True}, "did not sample it"),
        (0, {"behaviour_logprobs": (-0.5,)}, "carries log-probabilities"),
    ],
)
def test_each_broken_rule_of_a_chunk_is_named(
    trajectory: Trajectory, index: int, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(TrajectoryError, match=message):
        verify_trajectory(with_chunk(trajectory, index, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "infra_failed", "status_reason": "x"}, "with a verdict"),
        ({"status": "infra_failed", "reward": None, "success": None}, "without a reason"),
        ({"reward": None}, "without reward"),
        ({"reward": float("inf")}, "not finite"),
        ({"segments": (Segment(id=4, token_ids=(1,) * 9), Segment(id=1, token_ids=(7, 8)))}, "ids count from 0"),
        ({"segments": (Segment(id=0, token_ids=(1,) * 9), Segment(id=1, token_ids=(7, 8), parent=1))}, "parent"),
    ],
)
def test_each_broken_rule_of_the_record_is_named(
    trajectory: Trajectory, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(TrajectoryError, match=message):
        verify_trajectory(replace(trajectory, **changes))  # type: ignore[arg-type]  # the cases choose the fields


def test_all_broken_rules_are_listed_at_once(trajectory: Trajectory) -> None:
    broken = with_chunk(replace(trajectory, reward=None), 1, policy_version=None)
    with pytest.raises(TrajectoryError, match=r"breaks 2 rule\(s\)"):
        verify_trajectory(broken)
