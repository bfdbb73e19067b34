"""Precision and levels of what algorithms compute token losses with."""

from dataclasses import replace

import pytest
import torch

from tumbler_algorithms.parts.tokens import lengths_and_sums, log_ratio, mean_by_level, spread, total

LAYOUT = ((((("chunk", 2), ("other", 1)), (("chunk", 3), ("chunk", 1)))), ((("chunk", 4),),))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_total_keeps_what_the_values_hold_and_passes_the_gradient_on(dtype):
    values = torch.full((300, 500), 0.1, dtype=dtype, requires_grad=True)
    whole = total(values)
    assert whole.dtype == torch.float64
    assert whole.item() == pytest.approx(150_000 * values[0, 0].item(), rel=1e-6)
    assert torch.autograd.grad(whole, values)[0].eq(1).all()


def test_what_is_per_token_keeps_the_precision_of_the_batch(batches):
    batch = batches.tensors(batches.fill(LAYOUT), dtype=torch.float32)
    shares = spread(torch.ones(4, dtype=torch.float64), batch)
    assert shares.dtype == log_ratio(batch.policy_logprobs, batch.old_logprobs, batch).dtype == torch.float32
    assert spread(torch.ones(4, dtype=torch.bool), batch).equal(batch.chunk_of_token >= 0)


def test_means_are_over_the_chunk_or_over_the_whole_trajectory(batches):
    batch = batches.tensors(batches.fill(LAYOUT))
    batch = replace(batch, old_logprobs=batch.chunk_of_token.double())
    length, sums = lengths_and_sums(batch, batch.old_logprobs)
    assert length.tolist() == [2.0, 3.0, 1.0, 4.0]
    assert mean_by_level(sums, length, batch, "chunk").tolist() == [0.0, 1.0, 2.0, 3.0]
    assert mean_by_level(sums, length, batch, "trajectory").tolist() == pytest.approx([5 / 6] * 3 + [3.0])
