"""Deals a batch out to the optimizer steps of one pass; knows neither tokens nor models."""

from collections.abc import Sequence
from typing import TypeVar

import torch

__all__ = ["deal"]

_Item = TypeVar("_Item")


def deal(
    items: Sequence[_Item], *, weights: Sequence[int], parts: int, generator: torch.Generator
) -> list[list[_Item]]:
    """Return up to `parts` parts of about equal weight, dealt in random order.

    There are fewer parts when there are fewer items, but always one, if only an empty one.
    """
    if parts == 1:
        return [list(items)]
    dealt: list[list[_Item]] = [[] for _ in range(parts)]
    dealt_weights = [0] * parts
    for index in torch.randperm(len(items), generator=generator).tolist():
        lightest = dealt_weights.index(min(dealt_weights))
        dealt[lightest].append(items[index])
        dealt_weights[lightest] += weights[index]
    return [part for part in dealt if part] or [[]]
