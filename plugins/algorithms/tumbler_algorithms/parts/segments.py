"""Segment sums and their transpose, fast on a processor and on an accelerator. Knows no batch.

B rows, T tokens, S segments, V tensors of values. Each token belongs to one segment, or to none. On a processor
the work goes row block by row block: what is made in between stays in the cache and is never as long as the batch.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

__all__ = ["row_blocks", "segment_sums", "spread_segments"]

_BLOCK = 1 << 16
"""Tokens of one block on a processor: in float64 half a megabyte, which a second-level cache holds."""

_LANES = 4
"""Partial sums of each segment. Neighbours go to different ones, so that no addition waits for the one before it."""


def segment_sums(segment: Tensor, count: int, *values: Tensor) -> Tensor:
    """Return the sum of each tensor's values in each segment; [V, S] float64.

    Args:
        segment: [B, T] int64: index of the token's segment in [0, S), or -1.
        count: S.
        values: [B, T] floating point each; those of tokens without a segment may be anything.
    """
    sums: Tensor = _SegmentSums.apply(segment, count, *values)  # type: ignore[no-untyped-call]  # torch gives no type
    return sums


def spread_segments(values: Tensor, segment: Tensor, *, everywhere: bool = False) -> Tensor:
    """Return each token's share of its segment's value, 0 without a segment; [S] to [B, T].

    `everywhere` says that no token is without a segment, which saves a pass.
    """
    shares: Tensor = _SpreadSegments.apply(values, segment, everywhere)  # type: ignore[no-untyped-call]  # torch gives no type
    return shares


def row_blocks(rows: Tensor) -> Iterator[slice]:
    """Return the rows in blocks that suit the device: all at once but on a processor; [B, T]."""
    count = rows.shape[0]
    step = max(1, _BLOCK // max(1, rows.shape[1])) if rows.device.type == "cpu" else max(1, count)
    return (slice(start, min(count, start + step)) for start in range(0, count, step))


def _sum(segment: Tensor, count: int, values: tuple[Tensor, ...]) -> Tensor:
    # Tokens without a segment have a sum of their own, at 0 of each lane, which nobody looks at.
    tokens = segment.shape[1]
    lane = (1 + torch.arange(_LANES, device=segment.device) * (count + 1)).repeat(-(-tokens // _LANES))[:tokens]
    sums = torch.zeros(len(values), _LANES * (count + 1), dtype=torch.float64, device=segment.device)
    for block in row_blocks(segment):
        index = (segment[block] + lane).flatten()
        for place, each in enumerate(values):
            sums[place].index_add_(0, index, each[block].double().flatten())
    return sums.view(len(values), _LANES, count + 1).sum(dim=1)[:, 1:]


def _spread(values: Tensor, segment: Tensor, everywhere: bool) -> Tensor:
    if everywhere:
        return values.index_select(0, segment.flatten()).view(segment.shape)
    table = torch.cat([values.new_zeros(1), values])
    shares = torch.empty(segment.shape, dtype=values.dtype, device=values.device)
    for block in row_blocks(segment):
        shares[block] = table.index_select(0, (segment[block] + 1).flatten()).view(segment[block].shape)
    return shares


class _Context(FunctionCtx):
    """What the functions below keep from forward to backward."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]
    dtypes: tuple[torch.dtype, ...]
    count: int


class _SegmentSums(torch.autograd.Function):
    """`_sum` with the gradient that it has: one look-up for each token, without anything kept but the segments."""

    @staticmethod
    def forward(ctx: _Context, segment: Tensor, count: int, *values: Tensor) -> Tensor:
        ctx.save_for_backward(segment)
        ctx.dtypes = tuple(each.dtype for each in values)
        return _sum(segment, count, values)

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (segment,) = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        gradients = (
            spread_segments(gradient.to(dtype), segment) if needed else None
            for gradient, dtype, needed in zip(grad_outputs[0], ctx.dtypes, wanted, strict=True)
        )
        return None, None, *gradients


class _SpreadSegments(torch.autograd.Function):
    """`_spread` with the gradient that it has: the segment sums."""

    @staticmethod
    def forward(ctx: _Context, values: Tensor, segment: Tensor, everywhere: bool) -> Tensor:
        ctx.save_for_backward(segment)
        ctx.count, ctx.dtypes = values.shape[0], (values.dtype,)
        return _spread(values, segment, everywhere)

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (segment,) = ctx.saved_tensors
        return segment_sums(segment, ctx.count, grad_outputs[0])[0].to(ctx.dtypes[0]), None, None
