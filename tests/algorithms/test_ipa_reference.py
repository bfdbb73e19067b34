"""Eq. 8-10 with every setting, against a slow reference in plain Python that knows no tensor."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tumbler_algorithms.ipa.loss import ipa_loss
from tumbler_algorithms.ipa.settings import IPASettings

thorough = settings(max_examples=4 * settings.default.max_examples)  # one test for very many combinations


@st.composite
def any_settings(draw):
    """Settings of the loss; those of plan and credit do not matter here."""
    normalisation = draw(st.sampled_from(["sum", "chunk-mean", "trajectory-mean", "token-mean", "constant"]))
    return IPASettings(
        epochs=2,
        mask_level=draw(st.sampled_from(["none", "token", "chunk", "trajectory"])),
        mismatch_threshold=draw(st.sampled_from([1.2, 1.5, 3.0])),
        normalisation=normalisation,
        constant_length=draw(st.integers(1, 50)) if normalisation == "constant" else None,
        rl_weight=draw(st.sampled_from([0.0, 0.5, 1.0])),
        imitation_weight=draw(st.sampled_from([0.0, 0.3, 2.0])),
        kl_weight=draw(st.sampled_from([0.0, 0.0, 0.2])),
        kl_estimator=draw(st.sampled_from(["k1", "k2", "k3"])),
        kl_reference=draw(st.sampled_from(["initial", "old", "behaviour"])),
        entropy_weight=draw(st.sampled_from([0.0, 0.0, 0.1])),
    )


def geometric_mean(tokens, numerator, denominator):
    gaps = [getattr(token, numerator) - getattr(token, denominator) for token in tokens]
    return math.exp(math.fsum(gaps) / len(gaps))


def kept_tokens(trajectory, chunk, options):
    """The chunk's tokens that the mask keeps."""

    def keeps(tokens):
        return geometric_mean(tokens, "old", "behaviour") <= options.mismatch_threshold

    if options.mask_level == "token":
        return [token for token in chunk.tokens if keeps([token])]
    whole = {
        "none": True,
        "chunk": keeps(chunk.tokens),
        "trajectory": keeps([token for each in trajectory.chunks for token in each.tokens]),
    }
    return list(chunk.tokens) if whole[options.mask_level] else []


def advantage(trajectory, chunk, tokens):
    """w_k G_k."""
    weight = 1.0 if trajectory.reward > 0 and chunk.credit >= 0 else min(1.0, geometric_mean(tokens, "policy", "old"))
    return weight * chunk.credit


def divergence(token, options):
    """The estimate of the divergence at a token, and its derivative by log π_θ."""
    if options.kl_reference == "initial":
        x, slope = token.initial - token.policy, -1.0
    else:
        x, slope = token.policy - getattr(token, options.kl_reference), 1.0
    value, derivative = {
        "k1": (-x, -1.0),
        "k2": (x * x / 2, x),
        "k3": (math.exp(x) - 1 - x, math.exp(x) - 1),
    }[options.kl_estimator]
    return value, slope * derivative


def lengths(groups, options):
    """What each chunk's tokens are divided by, given the counted tokens of each chunk of one trajectory."""
    every = sum(len(tokens) for tokens in groups)
    by_kind = {"trajectory-mean": [every] * len(groups), "chunk-mean": [len(tokens) for tokens in groups]}
    constant = options.constant_length or 1
    return [max(1, length) for length in by_kind.get(options.normalisation, [constant] * len(groups))]


def denominator_of(groups, options):
    """What one trajectory adds to the denominator."""
    every = sum(len(tokens) for tokens in groups)
    return {
        "sum": 1,
        "constant": 1,
        "chunk-mean": sum(bool(tokens) for tokens in groups),
        "trajectory-mean": int(every > 0),
        "token-mean": every,
    }[options.normalisation]


def unmasked_denominator(trajectory, options):
    """What one trajectory would add without the mask; of one that RL has no chunk of, next to nothing is left."""
    return denominator_of([chunk.tokens for chunk in trajectory.chunks], options) or math.inf


def reference(trajectories, options):
    """Total, denominator and the gradients by token id for log-probabilities and for entropies."""
    total, denominator, gradient, by_entropy = 0.0, 0, {}, {}
    for trajectory in trajectories:
        groups = [kept_tokens(trajectory, chunk, options) for chunk in trajectory.chunks]
        denominator += denominator_of(groups, options)
        for chunk, tokens, length in zip(trajectory.chunks, groups, lengths(groups, options), strict=True):
            for token in tokens:
                worth = options.rl_weight * advantage(trajectory, chunk, tokens)
                kl, slope = divergence(token, options)
                total += (options.kl_weight * kl - options.entropy_weight * token.entropy) / length
                total -= worth * token.policy / length
                gradient[token.id] = (options.kl_weight * slope - worth) / length
                by_entropy[token.id] = -options.entropy_weight / length
        replayed = [run.tokens for run in trajectory.replayed]
        left = denominator_of(groups, options) / unmasked_denominator(trajectory, options)
        for run, length in zip(trajectory.replayed, lengths(replayed, options), strict=True):
            for token in run.tokens:
                gradient[token.id] = -options.imitation_weight * run.credit / length * left
                total += gradient[token.id] * token.policy
    return total, denominator, gradient, by_entropy


def near(value, expected):
    return value == pytest.approx(expected, rel=1e-9, abs=1e-9)


def complete(gradient, ids):
    return {token: gradient.get(token, 0.0) for token in ids}


@thorough
@given(data=st.data(), options=any_settings())
def test_loss_and_gradients_agree_with_the_closed_form_in_every_setting(batches, data, options):
    plain, batch = data.draw(batches.token_batches())
    output = ipa_loss(batch, options)
    total, denominator, gradient, by_entropy = reference(plain, options)
    found = batches.gradients(batch, output)
    assert near(output.total.item(), total)
    assert near(output.denominator, denominator)
    assert near(found, complete(gradient, found))
    if options.entropy_weight > 0:
        found = batches.gradients(batch, output, of="entropies")
        assert near(found, complete(by_entropy, found))


@thorough
@given(data=st.data(), options=any_settings())
def test_what_is_masked_has_exactly_no_gradient_in_every_setting(batches, data, options):
    plain, batch = data.draw(batches.token_batches())
    masked = {
        token.id
        for each in plain
        for chunk in each.chunks
        for token in set(chunk.tokens) - set(kept_tokens(each, chunk, options))
    }
    found = batches.gradients(batch, ipa_loss(batch, options))
    assert all(found[token] == 0 for token in masked)


@settings(max_examples=30)
@given(data=st.data(), options=any_settings())
def test_what_is_masked_may_hold_anything_in_every_setting(batches, data, options):
    plain = data.draw(batches.plain_batches())
    kept = {token.id for each in plain for chunk in each.chunks for token in kept_tokens(each, chunk, options)}
    clean = batches.tensors(plain)
    outside = (clean.chunk_of_token >= 0) & ~torch.isin(clean.token_ids, torch.tensor([*kept, -1]))
    spoilt = batches.spoilt(clean, outside)
    outputs = ipa_loss(clean, options), ipa_loss(spoilt, options)
    assert near(outputs[0].total.item(), outputs[1].total.item())
    assert near(outputs[0].denominator, outputs[1].denominator)
    assert near(batches.gradients(clean, outputs[0]), batches.gradients(spoilt, outputs[1]))


@settings(max_examples=30)
@given(data=st.data(), options=any_settings())
def test_splitting_a_trajectory_into_segments_changes_nothing_in_every_setting(batches, data, options):
    plain = data.draw(batches.plain_batches())
    whole = batches.tensors(plain)
    split = batches.tensors(batches.split_segments(plain))
    outputs = ipa_loss(whole, options), ipa_loss(split, options)
    assert near(outputs[0].total.item(), outputs[1].total.item())
    assert near(batches.gradients(whole, outputs[0]), batches.gradients(split, outputs[1]))


@settings(max_examples=30)
@given(data=st.data(), options=any_settings())
def test_micro_batches_add_up_to_the_whole_in_every_setting(batches, data, options):
    plain = data.draw(batches.plain_batches())
    whole = ipa_loss(batches.tensors(plain), options)
    total, denominator, metrics = batches.add_up(ipa_loss(batches.tensors([each]), options) for each in plain)
    assert near(whole.total.item(), total)
    assert near(whole.denominator, denominator)
    assert whole.metrics.keys() == metrics.keys()
    assert all(near(whole.metrics[name], pair) for name, pair in metrics.items())
