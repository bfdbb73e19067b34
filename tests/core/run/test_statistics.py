"""Success by where a rollout started."""

from tumbler.contracts.algorithm import Group
from tumbler.run.statistics import summarise_anchors
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
