"""Deals examples out: to optimizer steps by their tokens, to forward passes by a token budget."""

from collections.abc import Sequence

import torch

from tumbler_backends.training.torch.layout import Example

__all__ = ["deal", "micro_batches"]


def micro_batches(examples: Sequence[Example], *, tokens: int) -> list[list[Example]]:
    """Return batches of examples of like length, each of at most `tokens` tokens with its padding.

    An example is never split: one that is longer is a batch of its own.
    """
    batches: list[list[Example]] = []
    rows = 0
    width = 0
    # From long to short, so that the first example of a batch sets its width.
    for example in sorted(examples, key=lambda each: -max(each.lengths)):
        rows += len(example.segments)
        if not batches or rows * width > tokens:
            batches.append([])
            rows = len(example.segments)
            width = max(example.lengths)
        batches[-1].append(example)
    return batches


def deal(examples: Sequence[Example], *, parts: int, generator: torch.Generator) -> list[list[Example]]:
    """Return up to `parts` parts of about equal loss tokens, dealt in random order.

    There are fewer parts when there are fewer examples, but always one, if only an empty one.
    """
    if parts == 1:
        return [list(examples)]
    dealt: list[list[Example]] = [[] for _ in range(parts)]
    tokens = [0] * parts
    for index in torch.randperm(len(examples), generator=generator).tolist():
        lightest = tokens.index(min(tokens))
        dealt[lightest].append(examples[index])
        tokens[lightest] += examples[index].loss_tokens
    return [part for part in dealt if part] or [[]]
