"""Train-infer correction at every level against plain Python, with a loss that uses it as algorithms do."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tumbler_algorithms.parts.averages import normalise
from tumbler_algorithms.parts.correction import correct
from tumbler_algorithms.parts.metrics import report
from tumbler_algorithms.parts.settings import CorrectionSettings
from tumbler_algorithms.parts.tokens import inside, spread

NORMALISATIONS = ("sum", "chunk-mean", "trajectory-mean", "token-mean", "constant")
LEVELS = ("none", "token", "chunk", "trajectory")

options = st.builds(
    CorrectionSettings,
    mask=st.sampled_from(LEVELS),
    low=st.sampled_from([0.0, 0.5]),
    high=st.sampled_from([1.5, 3.0]),
    weight=st.sampled_from(LEVELS),
    cap=st.sampled_from([0.8, 2.0]),
)


def gap(tokens):
    return math.exp(math.fsum(token.old - token.behaviour for token in tokens) / len(tokens))


def peers(trajectory, chunk, token, level, among):
    """The tokens of `among` that a token shares its gap with."""
    shared = {
        "token": [token],
        "chunk": chunk.tokens,
        "trajectory": [each for run in trajectory.chunks for each in run.tokens],
    }
    return [each for each in shared[level] if among is None or each in among]


def kept(trajectory, settings):
    """The trained tokens that the mask keeps."""
    pairs = [(chunk, token) for chunk in trajectory.chunks for token in chunk.tokens]
    if settings.mask == "none":
        return {token for _, token in pairs}
    gaps = {token: gap(peers(trajectory, chunk, token, settings.mask, None)) for chunk, token in pairs}
    return {token for token, value in gaps.items() if settings.low <= value <= settings.high}


def weight(trajectory, chunk, token, settings, among):
    if settings.weight == "none":
        return 1.0
    return min(settings.cap, gap(peers(trajectory, chunk, token, settings.weight, among)))


def loss(batch, settings, normalisation="token-mean"):
    """What an algorithm makes of a correction: minus the log-likelihood."""
    correction = correct(batch, settings)
    batch = correction.batch
    scale, denominator = normalise(batch, normalisation, constant=7)
    token_loss = -batch.policy_logprobs.masked_fill(~inside(batch), 0.0)
    return SimpleNamespace(
        total=(token_loss * correction.weight * spread(scale, batch)).sum(),
        denominator=denominator.item(),
        metrics=report(correction.pairs),
    )


@given(data=st.data(), settings=options, normalisation=st.sampled_from(NORMALISATIONS))
def test_masks_weights_and_denominators_agree_with_plain_python(batches, data, settings, normalisation):
    plain, batch = data.draw(batches.token_batches())
    output = loss(batch, settings, normalisation)
    expected, denominator = {}, 0
    for each in plain:
        among = kept(each, settings)
        sizes = [len(among & set(chunk.tokens)) for chunk in each.chunks]
        counts = {"chunk-mean": sum(map(bool, sizes)), "trajectory-mean": int(any(sizes)), "token-mean": sum(sizes)}
        denominator += counts.get(normalisation, 1)
        for chunk, size in zip(each.chunks, sizes, strict=True):
            length = {"chunk-mean": size, "trajectory-mean": sum(sizes), "constant": 7}.get(normalisation, 1)
            for token in set(chunk.tokens) & among:
                expected[token.id] = -weight(each, chunk, token, settings, among) / length
    found = batches.gradients(batch, output)
    assert output.denominator == denominator
    assert found == pytest.approx({token: expected.get(token, 0.0) for token in found}, rel=1e-9)
    assert all(found[token] == 0 for token in found if token not in expected)


@given(data=st.data(), settings=options)
def test_what_is_masked_may_hold_anything(batches, data, settings):
    plain = data.draw(batches.plain_batches())
    among = {token.id for each in plain for token in kept(each, settings)}
    clean = batches.tensors(plain)
    masked = inside(clean) & ~torch.isin(clean.token_ids, torch.tensor([*among, -1]))
    spoilt = batches.spoilt(clean, masked)
    gradients = [batches.gradients(batch, loss(batch, settings)) for batch in (clean, spoilt)]
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-9)


def test_nothing_is_corrected_by_default(batches):
    batch = batches.tensors(batches.fill(((((("chunk", 3),),)),)))
    correction = correct(batch, CorrectionSettings())
    assert correction.batch is batch
    assert correction.weight.item() == 1
    assert not correction.pairs


@pytest.mark.parametrize("level", LEVELS[1:])
def test_equal_engines_mask_nothing_and_weigh_one(batches, level):
    batch = batches.tensors(batches.fill(((((("chunk", 3), ("other", 1), ("chunk", 2)),)),), mismatch=0))
    batch = replace(batch, behaviour_logprobs=batch.old_logprobs)
    correction = correct(batch, CorrectionSettings(mask=level, low=1.0, high=1.0, weight=level))
    assert torch.equal(correction.batch.chunk_of_token, batch.chunk_of_token)
    assert torch.equal(correction.weight, inside(batch).double())


@pytest.mark.parametrize(("low", "high", "left"), [(0.0, 2.0, [0, 1]), (0.5, None, [1, 2]), (0.5, 2.0, [1])])
def test_bounds_hold_on_one_side_or_on_both_and_are_closed(batches, low, high, left):
    batch = batches.tensors(batches.fill(((((("chunk", 3),),)),)))
    gaps = torch.tensor([[0.25, 1.0, 4.0]], dtype=torch.float64)
    batch = replace(batch, behaviour_logprobs=batch.old_logprobs - gaps.log())
    correction = correct(batch, CorrectionSettings(mask="token", low=low, high=high))
    assert inside(correction.batch)[0].nonzero().flatten().tolist() == left


def test_metrics_tell_what_was_masked_and_truncated(batches):
    batch = batches.tensors(batches.fill(((((("chunk", 4), ("other", 2)),)),)))
    gaps = torch.tensor([[0.5, 1.0, 3.0, 8.0, 9.0, 9.0]], dtype=torch.float64)
    batch = replace(batch, behaviour_logprobs=batch.old_logprobs - gaps.log())
    found = loss(batch, CorrectionSettings(mask="token", high=4.0, weight="token", cap=2.0)).metrics
    assert found == {
        "mask_share": (1.0, 4.0),
        "gap_mean": (pytest.approx(12.5), 4.0),
        "weight_mean": (pytest.approx(3.5), 3.0),
        "weight_capped_share": (1.0, 3.0),
    }


def test_the_weight_has_no_gradient(batches):
    batch = batches.tensors(batches.fill(((((("chunk", 3),),)),)))
    batch = replace(batch, old_logprobs=batch.policy_logprobs)
    assert not correct(batch, CorrectionSettings(weight="chunk")).weight.requires_grad


@pytest.mark.parametrize("fields", [{"mask": "chunk", "high": None}, {"low": 1.1}, {"high": 0.9}, {"cap": 0.0}])
def test_settings_that_mask_nothing_or_everything_are_refused(fields):
    with pytest.raises(ValidationError):
        CorrectionSettings(**fields)
