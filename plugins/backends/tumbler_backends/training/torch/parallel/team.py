"""The trainers that take a step together, seen from one of them; knows neither models nor losses."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import distributed

__all__ = ["Team"]

_Item = TypeVar("_Item")


class Team:
    """One trainer of `size`, in a process each. Every method but `beat` must be called by all of them alike.

    With `size` 1 nothing is exchanged; otherwise PyTorch's default process group has to be there, with a
    backend for tensors of the CPU.
    """

    def __init__(
        self,
        *,
        rank: int = 0,
        size: int = 1,
        beat: Callable[[], None] = lambda: None,
        met: Callable[[], None] = lambda: None,
    ) -> None:
        """Take this trainer's place.

        Args:
            rank: of this trainer, from 0.
            size: how many there are.
            beat: called with each pass over a micro-batch: a sign of life.
            met: called whenever the others are about to be waited for.
        """
        self.rank = rank
        self.size = size
        self.beat = beat
        self._met = met

    @property
    def leads(self) -> bool:
        """Return whether this trainer writes for all."""
        return self.rank == 0

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Return the sums of the trainers' numbers, place by place."""
        if self.size == 1:
            return list(numbers)
        self._met()
        summed = torch.tensor(numbers, dtype=torch.float64)
        distributed.all_reduce(summed)
        return summed.tolist()

    def most(self, number: int) -> int:
        """Return the greatest of the trainers' numbers."""
        return max(self.gather(number))

    def gather(self, item: _Item) -> list[_Item]:
        """Return the trainers' items in the order of their ranks."""
        if self.size == 1:
            return [item]
        self._met()
        items: list[_Item | None] = [None] * self.size
        distributed.all_gather_object(items, item)
        return [each for each in items if each is not None]

    def add_up(self, tensor: torch.Tensor) -> None:
        """Replace the tensor by the sum of the trainers' tensors."""
        if self.size > 1:
            self._met()
            distributed.all_reduce(tensor)
