"""Segment sums and their transpose against loops, and their gradients against differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tumbler_algorithms.parts.segments import row_blocks, segment_sums, spread_segments

SEGMENTS = torch.tensor([[0, 0, -1, 3, 3, 3], [1, 1, 1, -1, -1, 0]])
COUNT = 5
"""Of which segments 2 and 4 hold no token."""


def loop(segment, count, values):
    sums = [0.0] * count
    for place, value in zip(segment.flatten().tolist(), values.flatten().tolist(), strict=True):
        if place >= 0:
            sums[place] += value
    return sums


@given(rows=st.integers(0, 4), width=st.integers(0, 9), count=st.integers(0, 6), seed=st.integers(0, 1 << 30))
def test_sums_and_shares_agree_with_loops(rows, width, count, seed):
    generator = torch.Generator().manual_seed(seed)
    segment = torch.randint(-1, count, (rows, width), generator=generator) if count else torch.full((rows, width), -1)
    values = torch.randn(2, rows, width, dtype=torch.float64, generator=generator)
    sums = segment_sums(segment, count, *values)
    assert sums.shape == (2, count)
    assert sums.flatten().tolist() == pytest.approx([each for one in values for each in loop(segment, count, one)])
    per_segment = torch.randn(count, dtype=torch.float64, generator=generator)
    expected = [0.0 if place < 0 else per_segment[place].item() for place in segment.flatten().tolist()]
    assert spread_segments(per_segment, segment).flatten().tolist() == expected


def test_many_row_blocks_add_up_to_one():
    rows, width = 300, 1000
    segment = torch.arange(rows * width).view(rows, width) // 7 % 4000 - 1
    values = torch.randn(rows, width, dtype=torch.float64)
    assert len(list(row_blocks(segment))) > 2
    expected = torch.zeros(4000, dtype=torch.float64).index_add(0, (segment + 1).flatten(), values.flatten())[1:]
    assert torch.allclose(segment_sums(segment, 3999, values)[0], expected, rtol=1e-12, atol=1e-12)
    per_segment = torch.randn(3999)
    shares = spread_segments(per_segment, segment)
    assert torch.equal(shares, torch.cat([torch.zeros(1), per_segment])[segment + 1])


def test_row_blocks_hold_every_row_once():
    for rows, width in ((0, 5), (5, 0), (3, 1 << 17), (1000, 300)):
        table = torch.empty(rows, width)
        assert torch.cat([torch.arange(rows)[block] for block in row_blocks(table)] or [torch.arange(0)]).tolist() == [
            *range(rows)
        ]


@pytest.mark.parametrize("anything", [math.nan, math.inf, -math.inf])
def test_what_has_no_segment_changes_neither_sums_nor_gradients(anything):
    values = torch.randn(SEGMENTS.shape, dtype=torch.float64)
    noisy = values.masked_fill(SEGMENTS < 0, anything).requires_grad_()
    sums = segment_sums(SEGMENTS, COUNT, noisy)[0]
    assert torch.equal(sums, segment_sums(SEGMENTS, COUNT, values)[0])
    (gradient,) = torch.autograd.grad(sums.square().sum(), noisy)
    assert torch.equal(gradient, spread_segments(2 * sums.detach(), SEGMENTS))


def test_gradients_are_those_of_the_sums():
    values = torch.randn(SEGMENTS.shape, dtype=torch.float64, requires_grad=True)
    fixed = torch.randn(SEGMENTS.shape, dtype=torch.float64)
    shares = torch.randn(COUNT, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda each: segment_sums(SEGMENTS, COUNT, fixed, each), values)
    assert torch.autograd.gradcheck(lambda each: spread_segments(each, SEGMENTS), shares)
    assert torch.autograd.gradgradcheck(lambda each: segment_sums(SEGMENTS, COUNT, each.square()), values)
    assert torch.autograd.gradgradcheck(lambda each: spread_segments(each.square(), SEGMENTS), shares)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_is_summed_in_double_and_has_its_own_gradient(dtype):
    values = torch.full((2, 50_000), 0.1, dtype=dtype, requires_grad=True)
    segment = torch.zeros(2, 50_000, dtype=torch.int64)
    (total,) = segment_sums(segment, 1, values)[0]
    assert total.item() == pytest.approx(100_000 * values[0, 0].item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(total, values)
    assert gradient.dtype == dtype
    assert gradient.eq(1).all()
