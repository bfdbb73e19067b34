"""The trained tokens of a batch: which they are, in which order, and where their gradients go."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tumbler_algorithms.parts.averages import normalise
from tumbler_algorithms.parts.correction import without_tokens
from tumbler_algorithms.parts.tokens import count, lengths, only_inside, spread, sum_by_chunk
from tumbler_algorithms.parts.trained import trained_tokens, whole

KINDS = ("sum", "chunk-mean", "trajectory-mean", "token-mean", "constant")


@given(data=st.data())
def test_they_are_the_tokens_of_chunks_in_the_order_of_rows_and_columns(batches, data):
    _, batch = data.draw(batches.token_batches())
    trained = trained_tokens(batch)
    inside = batch.chunk_of_token >= 0
    assert whole(trained)
    assert not whole(batch)
    for name in ("chunk_of_token", "policy_logprobs", "old_logprobs", "behaviour_logprobs", "entropies", "values"):
        assert torch.equal(getattr(trained, name), getattr(batch, name)[inside][None])


@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_sums_shares_and_averages_are_those_of_the_batch(batches, data, kind):
    _, batch = data.draw(batches.token_batches())
    trained = trained_tokens(batch)
    inside = batch.chunk_of_token >= 0
    assert count(trained) == count(batch)
    assert torch.equal(lengths(trained), lengths(batch))
    sums = [sum_by_chunk(each.old_logprobs, each) for each in (trained, batch)]
    assert torch.allclose(*sums, rtol=1e-12, atol=1e-12)
    assert torch.equal(spread(batch.chunk_credit, trained)[0], spread(batch.chunk_credit, batch)[inside])
    (scale, denominator), (expected, divisor) = (normalise(each, kind, constant=7) for each in (trained, batch))
    assert denominator == divisor
    assert torch.equal(scale.expand(expected.shape), expected)


def test_what_is_taken_brings_its_gradient_back_and_nothing_to_the_rest(batches):
    batch = batches.tensors(
        batches.fill(
            ((((("other", 2), ("chunk", 2), ("expert", 1), ("chunk", 1)),),)),
        )
    )
    taken = trained_tokens(batch).policy_logprobs
    (gradient,) = torch.autograd.grad((taken * torch.tensor([[2.0, 3.0, 5.0]])).sum(), batch.policy_logprobs)
    assert gradient.tolist() == [[0.0, 0.0, 2.0, 3.0, 0.0, 5.0]]


def test_replayed_chunks_are_left_behind_and_so_is_what_says_which_they_were(batches):
    batch = batches.tensors(
        batches.fill(
            ((((("chunk", 1), ("expert", 3)),),)),
        )
    )
    trained = trained_tokens(batch)
    assert trained.chunk_of_token.tolist() == [[0]]
    assert trained.imitation_credit is None
    assert trained.imitation_mask.numel() == 0


def test_a_mask_on_trained_tokens_is_seen(batches):
    batch = batches.tensors(batches.fill(((((("chunk", 3),),)),)))
    trained = trained_tokens(replace(batch, old_logprobs=torch.tensor([[1.0, torch.nan, 3.0]])))
    left = without_tokens(trained, torch.tensor([[False, True, False]]))
    assert not whole(left)
    assert count(left) == 2
    assert only_inside(left.old_logprobs, left).tolist() == [[1.0, 0.0, 3.0]]


@pytest.mark.parametrize("layout", [(), (("other", 3),)])
def test_a_batch_without_trained_tokens_gives_none(batches, layout):
    batch = batches.tensors(batches.fill(((layout,),) if layout else ((),)))
    assert count(trained_tokens(batch)) == 0
