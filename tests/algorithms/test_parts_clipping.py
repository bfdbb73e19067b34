"""The clipped surrogate and the k3 penalty where a ratio would overflow."""

import math
from dataclasses import replace

import pytest
import torch

from tumbler_algorithms.parts.clipping import clipped_surrogate
from tumbler_algorithms.parts.exponential import bounded_exp, bounded_expm1
from tumbler_algorithms.parts.regularise import divergence

FAR = (25.0, 88.0, 89.0, 200.0, 2000.0)


def gradient(log_ratio, advantage, **fields):
    moved = torch.tensor(log_ratio, dtype=torch.float32, requires_grad=True)
    surrogate, held = clipped_surrogate(moved, torch.tensor(advantage), low=0.2, high=0.2, **fields)
    (slope,) = torch.autograd.grad(surrogate, moved)
    return slope.item(), held.item()


@pytest.mark.parametrize("far", FAR)
def test_a_ratio_that_the_clip_holds_has_no_gradient_however_far_it_went(far):
    assert gradient(far, 1.0) == (0.0, True)
    assert gradient(far, -1.0, dual=2.0) == (0.0, True)
    assert gradient(-far, -1.0) == (0.0, True)


@pytest.mark.parametrize("far", FAR)
def test_a_ratio_that_nothing_holds_pushes_the_right_way_with_a_finite_gradient(far):
    slope, held = gradient(far, -1.0)
    assert math.isfinite(slope)
    assert slope < -1e8
    assert not held


@pytest.mark.parametrize("reference", ["initial", "old"])
@pytest.mark.parametrize("far", FAR)
def test_k3_pulls_back_with_a_finite_gradient_however_far_the_policy_went(batches, far, reference):
    batch = batches.tensors(batches.fill((((("chunk", 2),),),)), dtype=torch.float32)
    start = batch.policy_logprobs.detach()
    gone = {"initial": ("reference_logprobs", start + far), "old": ("old_logprobs", start - far)}
    name, values = gone[reference]
    batch = replace(batch, **{name: values})
    (slope,) = torch.autograd.grad(divergence(batch, "k3", reference).sum(), batch.policy_logprobs)
    assert torch.isfinite(slope).all()
    assert (slope < 0 if reference == "initial" else slope > 0).all()


def test_the_exponentials_are_exact_where_nothing_overflows_and_go_on_as_tangents():
    x = torch.tensor([-800.0, -1.0, 0.0, 1e-12, 3.0, 19.99], dtype=torch.float64, requires_grad=True)
    for found, expected in ((bounded_exp(x)[0], x.exp()), (bounded_expm1(x), torch.expm1(x))):
        slopes = [torch.autograd.grad(each.sum(), x)[0] for each in (found, expected)]
        assert torch.equal(found, expected)
        assert torch.allclose(*slopes, rtol=1e-15, atol=0)
    beyond = torch.tensor([21.0, math.inf], dtype=torch.float64, requires_grad=True)
    for value in (bounded_exp(beyond)[0], bounded_expm1(beyond)):
        assert value[0].item() == pytest.approx(2 * math.exp(20), rel=1e-8)
        (slope,) = torch.autograd.grad(value.sum(), beyond)
        assert slope.tolist() == pytest.approx([math.exp(20)] * 2, rel=1e-8)
