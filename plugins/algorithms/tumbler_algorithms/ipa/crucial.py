"""Crucial chunks: where success drops from one anchor to the one before it (arXiv 2512.24873, 3.2.4.5).

With p_k the success rate of rollouts to which k chunks are replayed, chunk k is crucial if p_k is far
below p_{k+1}: whoever has it done for him succeeds, whoever has to do it does not.
"""

import math

from tumbler_algorithms.ipa.learnt import CrucialChunk, Learnt, Rate, Record

__all__ = ["chunk_index", "find_crucial", "is_drop"]

_Z = 1.645
"""Quantile of the normal distribution for 5 % on one side."""

_ROUNDING = 1e-9
"""A drop by exactly `dip` counts, although 0.7 - 0.2 is less than 0.5 in binary."""


def is_drop(before: Rate, after: Rate, dip: float) -> bool:
    """Return whether success before a chunk is below that after it, by at least `dip` and not by chance.

    Chance is held off by a two-proportion bound: one success and one failure are added to each side, and
    the lower end of the difference's 95 % interval (one-sided) must be above 0 (Agresti and Caffo, 2000).
    Of 8 rollouts each, 6 successes after and 1 before are enough.
    """
    if after.share - before.share < dip - _ROUNDING:
        return False
    low, high = _softened(before), _softened(after)
    variance = low * (1 - low) / (before.taken + 2) + high * (1 - high) / (after.taken + 2)
    return high - low > _Z * math.sqrt(variance)


def find_crucial(learnt: Learnt, key: str, record: Record, *, rollouts: int, dip: float) -> None:
    """Compare each anchor with the one a chunk later, and note the drops.

    Only rollouts of the steps that both windows span are compared, at least `rollouts` of each: else an
    anchor that was last tried by a younger policy would look worse than its neighbour for that alone.
    """
    for left in sorted(record.windows):
        one, other = record.period(left), record.period(left - 1)
        both = range(max(one.start, other.start), min(one.stop, other.stop))
        before, after = record.rate(left, both), record.rate(left - 1, both)
        if min(before.taken, after.taken) >= rollouts and is_drop(before, after, dip):
            chunk = chunk_index(record, left)
            learnt.add_crucial(key, CrucialChunk(left=left, chunk=chunk, before=before.share, after=after.share))


def chunk_index(record: Record, left: int) -> int | None:
    """Return the index of the first of the `left` chunks; None where the record is about all tasks."""
    return record.chunks - left if record.expert else None


def _softened(rate: Rate) -> float:
    return (rate.won + 1) / (rate.taken + 2)
