"""Finds requests whose slots lie in step, so that one call of attention serves them all; knows no layer.

Slots of one size that lie a multiple of it apart are lanes of one strided view of the pool: nothing is copied, and only
a mask tells how long each request is. On a small model a call for each request costs more than all that it computes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from tumbler_backends.inference.transformers.runner import Stretch

__all__ = ["Lanes", "find_lanes"]

_LONGEST_GAP = 2
"""Lanes from one request to the next; those between are computed for nothing."""
_MOST_PADDING = 2.0
"""How many times the requests' own tokens a call may read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lanes:
    """Requests with one new token each, R of them in L lanes."""

    members: tuple[int, ...]
    """Which of the step's stretches they are."""
    first: int
    """Where in the pool, in tokens, the first lane begins."""
    size: int
    """Tokens of a lane."""
    count: int
    """L."""
    lengths: tuple[int, ...]
    """Tokens of each request, the new one too."""
    places: Tensor
    """[R] the lane of each request."""
    tokens: Tensor
    """[R] where among the step's new tokens each one's is."""
    _masks: dict[int, Tensor] = field(default_factory=dict)

    @property
    def longest(self) -> int:
        """Return the tokens of the longest request."""
        return max(self.lengths)

    def mask(self, window: int, like: Tensor) -> Tensor:
        """Return what is added to the scores, [L, 1, 1, longest], in the type of `like`; 0 is no window."""
        if window not in self._masks:
            position = torch.arange(self.longest, device=like.device)
            length = torch.tensor(self.lengths, device=like.device)[:, None]
            seen = position < length
            if window:
                seen &= position >= length - window
            mask = like.new_zeros(self.count, self.longest)
            mask[self.places] = mask[self.places].masked_fill_(~seen, -torch.inf)
            self._masks[window] = mask[:, None, None]
        return self._masks[window]


def find_lanes(stretches: Sequence[Stretch], sizes: Sequence[int], device: torch.device) -> list[Lanes]:
    """Return the lanes among the stretches, of two requests or more each; what is in none is for a call of its own."""
    single = [index for index, size in enumerate(sizes) if size == 1]
    offsets = [0]
    for size in sizes:
        offsets.append(offsets[-1] + size)
    found = []
    by_phase = sorted(single, key=lambda index: (*_phase(stretches[index]), stretches[index].slot.start))
    for _, group in groupby(by_phase, key=lambda index: _phase(stretches[index])):
        for run in _runs(list(group), stretches):
            lengths = [len(stretches[index].token_ids) for index in run]
            first, size = stretches[run[0]].slot.start, stretches[run[0]].slot.capacity
            places = [(stretches[index].slot.start - first) // size for index in run]
            if len(run) == 1 or (places[-1] + 1) * max(lengths) > _MOST_PADDING * sum(lengths):
                continue
            found.append(
                Lanes(
                    members=tuple(run),
                    first=first,
                    size=size,
                    count=places[-1] + 1,
                    lengths=tuple(lengths),
                    places=torch.tensor(places, device=device),
                    tokens=torch.tensor([offsets[index] for index in run], device=device),
                )
            )
    return found


def _phase(stretch: Stretch) -> tuple[int, int]:
    """Return what the slots of one set of lanes have in common."""
    return stretch.slot.capacity, stretch.slot.start % stretch.slot.capacity


def _runs(group: Sequence[int], stretches: Sequence[Stretch]) -> list[list[int]]:
    """Return the group, which is in the order of the pool, cut where too many lanes lie between two requests."""
    runs = [[group[0]]]
    for index in group[1:]:
        before, slot = stretches[runs[-1][-1]].slot, stretches[index].slot
        if slot.start - before.start > _LONGEST_GAP * slot.capacity:
            runs.append([])
        runs[-1].append(index)
    return runs
