"""Sequential rollback: one anchor that moves back as the rest is mastered (arXiv 2512.24873, 3.2.4.5)."""

import math

from tumbler_algorithms.ipa.crucial import look_where_rollback_stands
from tumbler_algorithms.ipa.learnt import Learnt, Rate, Record, RollbackPlace, Told
from tumbler_algorithms.ipa.resampling_settings import AnchorSettings

__all__ = ["advance", "resume"]


def advance(learnt: Learnt, key: str, record: Record, told: Told, anchors: AnchorSettings) -> None:
    """Take note of rollouts from where the rollback stands, and move on if it is time.

    It moves back by one chunk, at most once in a step, when `rollouts` rollouts were made from here and
    their last ones reach the threshold, or when patience is at its end. Patience is counted by the rollouts of
    one task, a mean over those of the step, lest many tasks that stand here together use it up at once.
    """
    place = record.place
    place.rate = Rate(won=place.rate.won + told.won, taken=place.rate.taken + told.taken)
    place.recent = (place.recent + told.outcomes)[-anchors.rollouts :]
    place.waited += told.taken / told.groups
    place.began = place.began or learnt.steps
    look_where_rollback_stands(learnt, key, record, anchors)
    recent = Rate.of(place.recent)
    mastered = recent.taken >= anchors.rollouts and recent.share >= anchors.threshold
    tired = 0 < anchors.patience <= place.waited
    if place.left < record.chunks and (mastered or tired):
        record.place = _next_place(learnt.steps, record, recent, anchors, mastered=mastered)


def resume(step: int, record: Record) -> None:
    """Begin another sweep if a rollback has rested for long enough."""
    place = record.place
    if place.resumes is not None and step >= place.resumes:
        record.place = RollbackPlace(sweep=place.sweep + 1)


def _next_place(step: int, record: Record, recent: Rate, anchors: AnchorSettings, *, mastered: bool) -> RollbackPlace:
    """Return where to go on.

    From further back nobody succeeds where nobody did from here, so then, and at the start if some anchor was
    left unmastered, the sweep is over: the end is refreshed, and what is hard gets new patience. After the last of
    the `sweeps` a rollback rests at the start before each further one, as long as `retry_share` asks for.
    """
    place = record.place
    hopeless = not mastered and recent.won == 0
    weak = place.weak or not mastered
    left = record.chunks if hopeless else place.left + 1
    if left < record.chunks or not weak:
        return RollbackPlace(left=left, after=recent, sweep=place.sweep, weak=weak, began=place.began)
    if place.sweep < anchors.sweeps:
        return RollbackPlace(sweep=place.sweep + 1)
    if anchors.retry_share == 0:
        return RollbackPlace(left=left, sweep=place.sweep, weak=weak)
    rest = math.ceil((step - place.began + 1) * (1 - anchors.retry_share) / anchors.retry_share)
    return RollbackPlace(left=left, sweep=place.sweep, weak=weak, resumes=step + rest)
