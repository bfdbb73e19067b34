"""Sequential rollback: one anchor that moves back as the rest is mastered (arXiv 2512.24873, 3.2.4.5)."""

from tumbler_algorithms.ipa.crucial import chunk_index, is_drop
from tumbler_algorithms.ipa.learnt import CrucialChunk, Rate, Record, RollbackPlace
from tumbler_algorithms.ipa.resampling_settings import AnchorSettings

__all__ = ["advance"]


def advance(record: Record, outcomes: str, anchors: AnchorSettings) -> CrucialChunk | None:
    """Take note of rollouts from where the rollback stands, and move on if it is time.

    It moves back by one chunk, at most once in a step, when `rollouts` rollouts were made from here and
    either their last ones reach the threshold or patience is at its end. From the first full window it is
    also seen whether success has dropped since the anchor before; the chunk in between is then returned as
    crucial.
    """
    place = record.place
    was_full = place.rate.taken >= anchors.rollouts
    place.rate = Rate(won=place.rate.won + outcomes.count("1"), taken=place.rate.taken + len(outcomes))
    place.recent = (place.recent + outcomes)[-anchors.rollouts :]
    if place.rate.taken < anchors.rollouts:
        return None
    found = None if was_full else _crucial(record, anchors.dip)
    recent = Rate.of(place.recent)
    mastered = recent.share >= anchors.threshold
    tired = 0 < anchors.patience <= place.rate.taken
    if place.left < record.chunks and (mastered or tired):
        record.place = _next_place(record, recent, anchors, mastered=mastered)
    return found


def _next_place(record: Record, recent: Rate, anchors: AnchorSettings, *, mastered: bool) -> RollbackPlace:
    """Return where to go on.

    From further back nobody succeeds where nobody did from here, so then, and at the start if some anchor was
    left unmastered, another sweep begins: the end is refreshed, and what is hard gets new patience. The number of
    sweeps is bounded, so that a task is at anchors for at most sweeps (K - 1) (patience + one step's rollouts)
    of them.
    """
    place = record.place
    hopeless = not mastered and recent.won == 0
    weak = place.weak or not mastered
    left = record.chunks if hopeless else place.left + 1
    if left == record.chunks and weak and place.sweep < anchors.sweeps:
        return RollbackPlace(sweep=place.sweep + 1)
    return RollbackPlace(left=left, after=Rate() if hopeless else recent, sweep=place.sweep, weak=weak)


def _crucial(record: Record, dip: float) -> CrucialChunk | None:
    place = record.place
    if place.after.taken == 0 or not is_drop(place.rate, place.after, dip):
        return None
    return CrucialChunk(
        left=place.left,
        chunk=chunk_index(record, place.left),
        before=place.rate.share,
        after=place.after.share,
    )
