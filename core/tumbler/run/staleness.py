"""How old the policy was that sampled what a step trains: masks what is too old, and tells the figures."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tumbler.contracts.algorithm import Group
from tumbler.trajectory import Chunk, Trajectory

__all__ = ["mask_stale", "summarise_staleness"]


def mask_stale(groups: Sequence[Group], *, version: int, bound: int) -> list[Group]:
    """Return the groups with chunks that are more than `bound` versions older than `version` not to be trained."""
    return [
        replace(group, trajectories=tuple(_masked(each, version - bound) for each in group.trajectories))
        for group in groups
    ]


def summarise_staleness(groups: Sequence[Group], *, version: int, bound: int) -> dict[str, float]:
    """Return the `rollout/` figures on the policy's versions, over what RL may train; none if there is nothing.

    `staleness` is the mean over tokens, `stale_share` the share of tokens older than the bound.
    """
    lags = [(version - sampled, chunk.end - chunk.start) for chunk, sampled in _sampled(groups)]
    tokens = sum(size for _, size in lags)
    if not tokens:
        return {}
    return {
        "rollout/staleness": sum(lag * size for lag, size in lags) / tokens,
        "rollout/staleness_max": float(max(lag for lag, _ in lags)),
        "rollout/stale_share": sum(size for lag, size in lags if lag > bound) / tokens,
    }


def _sampled(groups: Sequence[Group]) -> Iterator[tuple[Chunk, int]]:
    for group in groups:
        for trajectory in group.trajectories:
            for chunk in trajectory.chunks:
                if chunk.trainable and chunk.policy_version is not None:
                    yield chunk, chunk.policy_version


def _masked(trajectory: Trajectory, oldest: int) -> Trajectory:
    stale = [each.policy_version is not None and each.policy_version < oldest for each in trajectory.chunks]
    if not any(stale):
        return trajectory
    chunks = zip(trajectory.chunks, stale, strict=True)
    return replace(trajectory, chunks=tuple(replace(each, trainable=False) if old else each for each, old in chunks))
