"""Crucial chunks: where success drops from one anchor to the one before it (arXiv 2512.24873, 3.2.4.5).

With p_k the success rate of rollouts to which k chunks are replayed, chunk k is crucial if p_k is far
below p_{k+1}: whoever has it done for him succeeds, whoever has to do it does not.
"""

import math

from tumbler_algorithms.ipa.learnt import CrucialChunk, Learnt, Rate, Record
from tumbler_algorithms.ipa.resampling_settings import AnchorSettings

__all__ = ["find_crucial", "is_drop", "look_where_rollback_stands"]

_Z = 3.0
"""Quantile of the normal distribution for 0.13 % on one side: a run looks hundreds of times at each place."""

_CONTRADICTED = 0.75
"""Share of the dip below which rollouts that were made since contradict a finding."""

_ROUNDING = 1e-9
"""A drop by exactly `dip` counts, although 0.7 - 0.2 is less than 0.5 in binary."""


def is_drop(before: Rate, after: Rate, dip: float) -> bool:
    """Return whether success before a chunk is below that after it, by at least `dip` and not by chance.

    Chance is held off by a two-proportion bound: one success and one failure are added to each side (Agresti and
    Caffo, 2000), and the difference must exceed three standard errors. Of 8 rollouts each, 7 successes after and 1
    before are enough.
    """
    if _drop(before, after) < dip - _ROUNDING:
        return False
    low, high = _softened(before), _softened(after)
    variance = low * (1 - low) / (before.taken + 2) + high * (1 - high) / (after.taken + 2)
    return high - low > _Z * math.sqrt(variance)


def find_crucial(learnt: Learnt, key: str, record: Record, anchors: AnchorSettings) -> None:
    """Compare each anchor with the one a chunk later, note the drops, and test again what was noted.

    Only rollouts of the steps that both windows span are compared, at least `rollouts` of each: else an
    anchor that was last tried by a younger policy would look worse than its neighbour for that alone. Of a
    chunk that was noted only rollouts since then count, until they have confirmed or contradicted it.
    """
    for left in sorted(record.windows):
        noted = learnt.crucial_at(key, left)
        one, other = record.period(left), record.period(left - 1)
        first = max(one.start, other.start, 0 if noted is None else noted.step + 1)
        both = range(first, min(one.stop, other.stop))
        before, after = record.rate(left, both), record.rate(left - 1, both)
        if min(before.taken, after.taken) >= anchors.rollouts:
            _judge(learnt, key, record, left, before, after, anchors.dip)


def look_where_rollback_stands(learnt: Learnt, key: str, record: Record, anchors: AnchorSettings) -> None:
    """Compare where a rollback stands with the last rollouts from the anchor after.

    The first `rollouts` rollouts from here find a drop, and as many again test it. Later ones tell of what was
    learnt here, and are not looked at.
    """
    place = record.place
    fresh = Rate(won=place.rate.won - place.seen.won, taken=place.rate.taken - place.seen.taken)
    over = place.looks == 2 or (place.looks == 1 and learnt.crucial_at(key, place.left) is None)
    if over or place.after.taken == 0 or fresh.taken < anchors.rollouts:
        return
    _judge(learnt, key, record, place.left, fresh, place.after, anchors.dip)
    place.seen, place.looks = place.rate, place.looks + 1


def _judge(learnt: Learnt, key: str, record: Record, left: int, before: Rate, after: Rate, dip: float) -> None:
    """Note a drop; of one that was noted, say that it is there again, or forget it where it is not."""
    noted = learnt.crucial_at(key, left)
    if noted is None:
        if is_drop(before, after, dip):
            chunk = record.chunks - left if record.expert else None
            found = CrucialChunk(
                left=left, chunk=chunk, before=before.share, after=after.share, step=learnt.steps, confirmed=False
            )
            learnt.add_crucial(key, found)
    elif not noted.confirmed:
        drop = _drop(before, after)
        if drop < _CONTRADICTED * dip:
            learnt.drop_crucial(key, left)
        noted.confirmed = drop >= dip - _ROUNDING


def _drop(before: Rate, after: Rate) -> float:
    return after.share - before.share


def _softened(rate: Rate) -> float:
    return (rate.won + 1) / (rate.taken + 2)
