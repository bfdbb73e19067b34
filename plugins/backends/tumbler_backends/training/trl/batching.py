"""Deals examples out to optimizer steps, and rows to forward passes."""

from collections.abc import Sequence

import torch

from tumbler_backends.training import dealing
from tumbler_backends.training.trl.rows import Example, Row

__all__ = ["deal", "micro_batches"]


def micro_batches(rows: Sequence[Row], *, tokens: int) -> list[list[Row]]:
    """Return batches of rows of like length, each of at most `tokens` tokens with its padding, or of one row."""
    batches: list[list[Row]] = []
    # From long to short, so that the first row of a batch sets its width.
    for row in sorted(rows, key=lambda each: -len(each.tokens)):
        if not batches or (len(batches[-1]) + 1) * len(batches[-1][0].tokens) > tokens:
            batches.append([])
        batches[-1].append(row)
    return batches


def deal(examples: Sequence[Example], *, parts: int, generator: torch.Generator) -> list[list[Example]]:
    """Return up to `parts` parts of whole trajectories and about equal tokens to train, in random order."""
    return dealing.deal(examples, weights=[each.trained for each in examples], parts=parts, generator=generator)
