"""Success by where a rollout started, and what cutting slow ones did."""

import pytest

from tumbler.contracts.algorithm import Group
from tumbler.rollout.scheduler import Span
from tumbler.run.statistics import summarise_anchors, summarise_cuts
from tumbler.trajectory import Anchor, Chunk, Component, Header, Trajectory

COMPONENT = Component(id="c", version="1", settings_hash="0")


def episode(name: str, *, chunks: int = 0, success: bool = True) -> Trajectory:
    return Trajectory(
        header=Header(id=name, task="t", env=COMPONENT, agent=COMPONENT),
        chunks=tuple(Chunk(segment=0, start=i, end=i + 1, sampled=False, trainable=False) for i in range(chunks)),
        reward=float(success),
        success=success,
    )


def group(at: int | None, *successes: bool, chunks: int = 8) -> Group:
    anchor = None if at is None else Anchor(expert=episode("expert", chunks=chunks), chunk=at)
    rollouts = tuple(episode(str(index), success=each) for index, each in enumerate(successes))
    return Group(id="g", task_id="t", trajectories=rollouts, anchor=anchor)


def test_success_is_told_by_quarter_of_the_expert() -> None:
    groups = [group(1, False, False), group(2, True), group(3, False), group(7, True, True), group(None, False)]
    assert summarise_anchors(groups) == {
        "rollout/anchors": 4.0,
        "rollout/success_anchor_q1": 0.0,
        "rollout/episodes_anchor_q1": 2.0,
        "rollout/success_anchor_q2": 0.5,
        "rollout/episodes_anchor_q2": 2.0,
        "rollout/success_anchor_q4": 1.0,
        "rollout/episodes_anchor_q4": 2.0,
    }


def test_an_anchor_after_the_last_chunk_is_in_the_last_quarter() -> None:
    assert summarise_anchors([group(8, True)])["rollout/success_anchor_q4"] == 1.0


def test_without_anchors_there_is_nothing_to_tell() -> None:
    assert summarise_anchors([group(None, True)]) == {}


def test_cutting_the_slow_ones_is_seen_in_the_mean_time() -> None:
    spans = [Span(seconds=1, finished=True), Span(seconds=2, finished=True), Span(seconds=2, finished=False)]
    # Product-limit estimate by hand: all three run for 1 s, two thirds of them for one more.
    assert summarise_cuts(spans) == {"rollout/cut": 1.0, "rollout/cut_bias": pytest.approx(1.5 / (1 + 2 / 3) - 1)}


def test_nothing_is_said_of_cuts_where_none_was_made() -> None:
    assert summarise_cuts([Span(seconds=1, finished=True)]) == {}
