"""Deals examples out: to optimizer steps and trainers by their tokens, to forward passes by a token budget."""

from bisect import bisect_right
from collections.abc import Sequence

import torch

from tumbler_backends.training import dealing
from tumbler_backends.training.torch.layout import Example
from tumbler_backends.training.torch.prefixes import TOKEN, RowTree, common, encode, row_tree

__all__ = ["computed_tokens", "deal", "micro_batches", "share_out"]

REREAD = 16
"""Tokens read again that weigh as one computed: attention copies their keys and values, which are two of the
thirty or so tensors of a layer that a computed token keeps for the backward pass."""


def micro_batches(examples: Sequence[Example], *, tokens: int, share: bool = False) -> list[list[Example]]:
    """Return batches of at most `tokens` tokens each.

    An example is never split: one that is longer is a batch of its own.

    Args:
        examples: in any order.
        tokens: that are computed in one batch, with padding; those of a shared prefix that rows read
            again count as well, at a `REREAD`th.
        share: whether common prefixes are computed once and rows are packed; then rows that begin alike
            come together, else rows of like length.
    """
    return _alike(examples, tokens) if share else _of_like_length(examples, tokens)


def computed_tokens(examples: Sequence[Example], *, share: bool) -> int:
    """Return how many tokens one forward pass computes for these examples, with padding."""
    tree = _tree([_encoded(each) for each in examples])
    return tree.computed if share else tree.padded


def share_out(examples: Sequence[Example], *, parts: int, share: bool) -> list[list[Example]]:
    """Return `parts` parts of about equal work, some of them empty if there are few examples.

    Args:
        examples: in any order; the same ones in the same order are shared out alike.
        parts: for one trainer each.
        share: whether common prefixes are computed once; then examples that begin alike come together.
    """
    if parts == 1:
        return [list(examples)]
    return _stretches(examples, parts) if share else _by_length(examples, parts)


def _stretches(examples: Sequence[Example], parts: int) -> list[list[Example]]:
    """Cut the examples, in the order in which those that begin alike are neighbours, into parts of equal work."""
    encoded = sorted((_encoded(each), index) for index, each in enumerate(examples))
    work: list[int] = []
    before = b""
    for rows, _ in encoded:
        work.append(0)
        for row in rows:
            work[-1] += len(row) // TOKEN - common(before, row)
            before = row
    shared: list[list[Example]] = [[] for _ in range(parts)]
    done = 0.0
    for (_, index), tokens in zip(encoded, work, strict=True):
        middle = (done + tokens / 2) / (sum(work) or 1)
        shared[min(parts - 1, int(parts * middle))].append(examples[index])
        done += tokens
    return shared


def _by_length(examples: Sequence[Example], parts: int) -> list[list[Example]]:
    """Give each example, from long to short, to the part with the fewest tokens."""
    shared: list[list[Example]] = [[] for _ in range(parts)]
    filled = [0] * parts
    for example in sorted(examples, key=lambda each: -sum(each.lengths)):
        lightest = filled.index(min(filled))
        shared[lightest].append(example)
        filled[lightest] += sum(example.lengths)
    return shared


def _alike(examples: Sequence[Example], tokens: int) -> list[list[Example]]:
    waiting = sorted(((_encoded(each), each) for each in examples), key=lambda pair: pair[0])
    batches: list[list[Example]] = []
    first = 0
    while first < len(waiting):
        # Few more than fit are ever looked at: the number is doubled, then halved in.
        count = 1
        while first + count < len(waiting) and _weight(waiting[first : first + 2 * count]) <= tokens:
            count *= 2
        more = range(count + 1, min(2 * count, len(waiting) - first + 1))
        count += bisect_right(more, tokens, key=lambda size: _weight(waiting[first : first + size]))
        batches.append([example for _, example in waiting[first : first + count]])
        first += count
    return batches


def _weight(part: Sequence[tuple[list[bytes], Example]]) -> int:
    tree = _tree([rows for rows, _ in part])
    return tree.computed + tree.reread // REREAD


def _tree(examples: Sequence[Sequence[bytes]]) -> RowTree:
    return row_tree([row for rows in examples for row in rows])


def _encoded(example: Example) -> list[bytes]:
    return [encode(example.row_tokens(row)) for row in range(len(example.lengths))]


def _of_like_length(examples: Sequence[Example], tokens: int) -> list[list[Example]]:
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
    """Return up to `parts` parts of whole examples and about equal loss tokens, in random order; see `dealing`."""
    return dealing.deal(examples, weights=[each.loss_tokens for each in examples], parts=parts, generator=generator)
