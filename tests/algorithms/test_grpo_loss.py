"""GRPO's loss against a slow reference in plain Python, and what must not change it."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumbler_algorithms.grpo.algorithm import GRPO
from tumbler_algorithms.grpo.settings import GRPOSettings

VARIANTS = {
    "grpo": {},
    "dr-grpo": {"normalisation": "constant", "constant_length": 50},
    "dapo": {"normalisation": "token-mean", "clip_high": 0.28},
    "kl": {"kl_weight": 0.3, "kl_reference": "old", "epochs": 2},
}

ragged = settings(max_examples=settings.default.max_examples // 2)  # for each variant anew
data = given(data=st.data())
for_every_variant = pytest.mark.parametrize("variant", VARIANTS)


def alone(*runs):
    """The layout of one trajectory with one segment."""
    return ((runs,),)


def draw(batches, data, **fields):
    return batches.fill(data.draw(batches.layouts()), seed=data.draw(st.integers(0, 1 << 30)), **fields)


def loss(batch, variant="grpo"):
    return GRPO(GRPOSettings(**VARIANTS[variant])).loss(batch)


def near(value, expected):
    return value == pytest.approx(expected, rel=1e-9, abs=1e-9)


def token_loss(token, advantage, rule):
    """The loss of one token and its derivative by log π_θ."""
    ratio = math.exp(token.policy - token.old)
    bound = min(max(ratio, 1 - rule.clip_low), 1 + rule.clip_high)
    free = ratio * advantage <= bound * advantage
    value, slope = -min(ratio * advantage, bound * advantage), -ratio * advantage if free else 0.0
    divergence = ratio - 1 - (token.policy - token.old)
    return value + rule.kl_weight * divergence, slope + rule.kl_weight * (ratio - 1)


def reference(trajectories, variant):
    """Total, denominator and gradient by token id, token by token."""
    rule = GRPOSettings(**VARIANTS[variant])
    total, denominator, gradient = 0.0, 0.0, {}
    for trajectory in trajectories:
        tokens = [(token, chunk.credit) for chunk in trajectory.chunks for token in chunk.tokens]
        length = {"trajectory-mean": len(tokens), "token-mean": 1}.get(rule.normalisation, rule.constant_length)
        denominator += {"trajectory-mean": bool(tokens), "token-mean": len(tokens)}.get(rule.normalisation, 1)
        for token, advantage in tokens:
            value, slope = token_loss(token, advantage, rule)
            total += value / length
            gradient[token.id] = slope / length
    return total, denominator, gradient


def same(batches, one, other, variant):
    outputs = loss(one, variant), loss(other, variant)
    gradients = [batches.gradients(batch, output) for batch, output in zip((one, other), outputs, strict=True)]
    assert near(outputs[0].total.item(), outputs[1].total.item())
    assert outputs[0].denominator == outputs[1].denominator
    assert near(gradients[0], gradients[1])


@for_every_variant
@ragged
@data
def test_loss_and_gradient_agree_with_the_slow_reference(batches, variant, data):
    plain = draw(batches, data)
    batch = batches.tensors(plain)
    output = loss(batch, variant)
    total, denominator, gradient = reference(plain, variant)
    found = batches.gradients(batch, output)
    assert near(output.total.item(), total)
    assert output.denominator == denominator
    assert near(found, {token: gradient.get(token, 0.0) for token in found})


@for_every_variant
@ragged
@data
def test_the_shape_of_the_batch_and_what_lies_outside_of_chunks_change_nothing(batches, variant, data):
    plain = draw(batches, data)
    batch, seed = batches.tensors(plain), data.draw(st.integers(0, 99))
    same(batches, batch, batches.tensors(plain, shuffle=seed, padding=seed % 4), variant)
    same(batches, batch, batches.tensors(plain, pack=True), variant)
    same(batches, batch, batches.tensors(plain, noise=seed, padding=2), variant)
    same(batches, batch, batches.tensors(batches.split_segments(plain)), variant)


@for_every_variant
@ragged
@data
def test_micro_batches_add_up_to_the_whole(batches, variant, data):
    plain = draw(batches, data)
    whole = loss(batches.tensors(plain), variant)
    cut = data.draw(st.integers(0, len(plain)))
    parts = [loss(batches.tensors(part), variant) for part in (plain[:cut], plain[cut:]) if part]
    total, denominator, metrics = batches.add_up(parts)
    assert near(whole.total.item(), total)
    assert whole.denominator == denominator
    assert whole.metrics.keys() == metrics.keys()
    assert all(near(whole.metrics[name], pair) for name, pair in metrics.items())


@for_every_variant
@ragged
@data
def test_the_inference_engines_log_probabilities_play_no_part(batches, variant, data):
    batch = batches.tensors(draw(batches, data))
    same(batches, batch, replace(batch, behaviour_logprobs=batch.behaviour_logprobs * math.nan), variant)


def test_no_advantage_gives_exactly_no_gradient_however_far_the_policy_went(batches):
    plain = batches.fill(alone(("chunk", 3), ("other", 1), ("chunk", 2)), stale=2000.0)
    batch = batches.tensors(batches.with_chunks(plain, lambda _, chunk: replace(chunk, credit=0.0)))
    output = loss(batch)
    assert output.total.item() == 0
    assert not any(batches.gradients(batch, output).values())


def test_the_upper_clip_is_its_own(batches):
    batch = batches.tensors(batches.fill(alone(("chunk", 4))))
    gaps = batch.old_logprobs.new_tensor([[1.1, 1.25, 1.3, 0.5]]).log()
    moved = (batch.old_logprobs + gaps).requires_grad_()
    batch = replace(batch, policy_logprobs=moved, chunk_credit=batch.chunk_credit.new_ones(1))
    pushed = {variant: list(batches.gradients(batch, loss(batch, variant)).values()) for variant in ("grpo", "dapo")}
    assert [value != 0 for value in pushed["grpo"]] == [True, False, False, True]
    assert [value != 0 for value in pushed["dapo"]] == [True, True, False, True]
    assert loss(batch).metrics["grpo/clipped_share"] == (2.0, 4.0)
    assert loss(batch, "dapo").metrics["grpo/clipped_share"] == (1.0, 4.0)


def test_metrics_describe_the_trained_tokens_alone(batches):
    plain = batches.fill(alone(("other", 3), ("chunk", 2), ("expert", 2), ("chunk", 1)))
    tokens = [token for chunk in plain[0].chunks for token in chunk.tokens]
    moved = [token.policy - token.old for token in tokens]
    metrics = loss(batches.tensors(plain, noise=1)).metrics
    assert near(metrics["grpo/ratio_mean"], (sum(math.exp(gap) for gap in moved), 3.0))
    assert near(metrics["grpo/kl"], (sum(math.exp(gap) - 1 - gap for gap in moved), 3.0))


def test_a_batch_without_chunks_has_neither_metrics_nor_gradient(batches):
    batch = batches.tensors(batches.fill(alone(("other", 3))))
    output = loss(batch)
    assert (output.denominator, output.metrics) == (0.0, {})
    assert not any(batches.gradients(batch, output).values())
