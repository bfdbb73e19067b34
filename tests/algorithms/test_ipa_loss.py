"""Eq. 8-10 against a slow reference in plain Python, and what must not change the loss."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tumbler.contracts.algorithm import Group
from tumbler_algorithms.ipa.algorithm import IPA
from tumbler_algorithms.ipa.loss import ipa_terms
from tumbler_algorithms.ipa.settings import IPASettings

NORMALISATIONS = ("sum", "chunk-mean", "trajectory-mean", "token-mean")
H = 1.5
SAMPLE = (
    ((("other", 2), ("expert", 3), ("chunk", 3), ("chunk", 2)), (("other", 1), ("chunk", 4))),
    ((("chunk", 1), ("other", 2), ("chunk", 5), ("other", 1), ("chunk", 2)),),
)


def alone(*runs):
    """The layout of one trajectory with one segment."""
    return ((runs,),)


ragged = settings(max_examples=settings.default.max_examples // 2)  # for each normalisation anew
data = given(data=st.data())
in_every_normalisation = pytest.mark.parametrize("normalisation", NORMALISATIONS)


def draw(batches, data, **fields):
    return batches.fill(data.draw(batches.layouts()), seed=data.draw(st.integers(0, 1 << 30)), **fields)


def loss(batch, normalisation="sum", **fields):
    return IPA(IPASettings(normalisation=normalisation, mismatch_threshold=H, **fields)).loss(batch)


def near(value, expected):
    return value == pytest.approx(expected, rel=1e-9, abs=1e-9)


def geometric_mean(chunk, numerator, denominator):
    gaps = [getattr(token, numerator) - getattr(token, denominator) for token in chunk.tokens]
    return math.exp(math.fsum(gaps) / len(gaps))


def kept(chunk):
    return geometric_mean(chunk, "old", "behaviour") <= H


def same(batches, one, other, **fields):
    """Whether two batches have equal loss, metrics and gradient."""
    outputs = loss(one, **fields), loss(other, **fields)
    gradients = [batches.gradients(batch, output) for batch, output in zip((one, other), outputs, strict=True)]
    assert near(outputs[0].total.item(), outputs[1].total.item())
    assert near(outputs[0].denominator, outputs[1].denominator)
    assert near(gradients[0], gradients[1])
    assert outputs[0].metrics.keys() == outputs[1].metrics.keys()
    for name, pair in outputs[0].metrics.items():
        assert near(pair, outputs[1].metrics[name]), name


@in_every_normalisation
@ragged
@data
def test_a_masked_chunk_has_exactly_no_gradient_and_other_tokens_have_none(batches, normalisation, data):
    plain = draw(batches, data)
    batch = batches.tensors(plain)
    gradient = batches.gradients(batch, loss(batch, normalisation))
    unmasked = {token.id for each in plain for chunk in each.chunks if kept(chunk) for token in chunk.tokens}
    assert all(value == 0 for token, value in gradient.items() if token not in unmasked)
    assert all(value != 0 for token, value in gradient.items() if token in unmasked)


@in_every_normalisation
@ragged
@data
def test_a_masked_chunk_may_hold_anything(batches, normalisation, data):
    broken = data.draw(
        st.sampled_from([(-math.inf, -0.5, -math.inf), (math.nan, math.nan, -0.5), (0.0, math.inf, 0.0)])
    )
    anything = dict(zip(("policy", "old", "behaviour"), broken, strict=True))

    def spoil(_, chunk):
        return chunk if kept(chunk) else batches.with_tokens(chunk, lambda token: replace(token, **anything))

    plain = draw(batches, data)
    clean, spoilt = batches.tensors(plain), batches.tensors(batches.with_chunks(plain, spoil))
    outputs = loss(clean, normalisation), loss(spoilt, normalisation)
    assert near(outputs[0].total.item(), outputs[1].total.item())
    assert near(batches.gradients(clean, outputs[0]), batches.gradients(spoilt, outputs[1]))


@in_every_normalisation
@ragged
@data
def test_permuting_padding_and_packing_change_nothing(batches, normalisation, data):
    plain = draw(batches, data)
    plainly = batches.tensors(plain)
    changed = batches.tensors(plain, shuffle=data.draw(st.integers(0, 99)), padding=data.draw(st.integers(0, 4)))
    same(batches, plainly, changed, normalisation=normalisation, imitation_weight=0.5)
    same(batches, plainly, batches.tensors(plain, pack=True), normalisation=normalisation, imitation_weight=0.5)


@in_every_normalisation
@ragged
@data
def test_splitting_trajectories_into_segments_changes_nothing(batches, normalisation, data):
    plain = draw(batches, data)
    for other in (batches.split_segments(plain), batches.join_segments(plain)):
        same(batches, batches.tensors(plain), batches.tensors(other), normalisation=normalisation)


@in_every_normalisation
@ragged
@data
def test_log_probabilities_outside_of_chunks_change_nothing(batches, normalisation, data):
    plain = draw(batches, data)
    noisy = batches.tensors(plain, noise=data.draw(st.integers(0, 99)), padding=2)
    same(batches, batches.tensors(plain), noisy, normalisation=normalisation, imitation_weight=0.5)


@in_every_normalisation
@ragged
@data
def test_micro_batches_add_up_to_the_whole(batches, normalisation, data):
    plain = draw(batches, data)
    batch = batches.tensors(plain)
    whole = loss(batch, normalisation, imitation_weight=0.5)
    cut = data.draw(st.integers(0, len(plain)))
    parts = [batches.tensors(part) for part in (plain[:cut], plain[cut:]) if part]
    outputs = [loss(part, normalisation, imitation_weight=0.5) for part in parts]
    total, denominator, metrics = batches.add_up(outputs)
    assert near(whole.total.item(), total)
    assert near(whole.denominator, denominator)
    assert whole.metrics.keys() == metrics.keys()
    assert all(near(whole.metrics[name], pair) for name, pair in metrics.items())
    by_parts = {}
    for part, output in zip(parts, outputs, strict=True):
        by_parts |= batches.gradients(part, output)
    assert near(batches.gradients(batch, whole), by_parts)


@ragged
@given(count=st.integers(1, 5), seed=st.integers(0, 1 << 30))
def test_one_chunk_without_discount_is_trajectory_reinforce(batches, count, seed):
    plain = batches.fill(alone(("other", 2), ("chunk", 4)) * count, seed=seed, stale=0, mismatch=0)
    records = tuple(batches.trajectory(each.reward, turns=(0.0,)) for each in plain)
    worth = IPA(IPASettings(gamma=1.0)).credit(Group(id="g", task_id="t", trajectories=records))
    batch = replace(batches.tensors(plain), chunk_credit=torch.tensor(worth, dtype=torch.float64).flatten())
    output = loss(batch)
    reinforce = [-each.reward * sum(token.policy for chunk in each.chunks for token in chunk.tokens) for each in plain]
    assert near(output.total.item() / output.denominator, sum(reinforce) / count)


@in_every_normalisation
@ragged
@data
def test_a_return_of_zero_has_exactly_no_gradient(batches, normalisation, data):
    plain = batches.with_chunks(draw(batches, data, rewards=(0.0,)), lambda _, chunk: replace(chunk, credit=0.0))
    batch = batches.tensors(plain)
    output = loss(batch, normalisation)
    assert output.total.item() == 0
    assert not any(batches.gradients(batch, output).values())


@ragged
@data
def test_successes_depend_on_the_other_policies_through_the_mask_alone(batches, data):
    plain = draw(batches, data, rewards=(1.0,))
    plain = batches.with_chunks(plain, lambda _, chunk: replace(chunk, credit=abs(chunk.credit)))
    shift = data.draw(st.floats(-3, 3))

    def moved(token):
        return replace(token, old=token.old + shift, behaviour=token.behaviour + shift)

    other = batches.with_chunks(plain, lambda _, chunk: batches.with_tokens(chunk, moved))
    one, two = batches.tensors(plain), batches.tensors(other)
    assert near(batches.gradients(one, loss(one)), batches.gradients(two, loss(two)))


@ragged
@data
def test_failures_weigh_at_most_one_and_less_as_the_policy_leaves_them(batches, data):
    plain = draw(batches, data, rewards=(-1.0,), mismatch=0)
    plain = batches.with_chunks(plain, lambda _, chunk: replace(chunk, credit=-1.0))
    batch = batches.tensors(plain)
    gradient = batches.gradients(batch, loss(batch))
    for chunk in (chunk for each in plain for chunk in each.chunks if kept(chunk)):
        ratio = geometric_mean(chunk, "policy", "old")
        for token in chunk.tokens:
            assert near(gradient[token.id], min(ratio, 1.0))


@pytest.mark.parametrize(("reward", "credit"), [(0.3, -1.0), (1.0, -0.5), (0.0, -0.5)])
def test_chunks_that_are_credited_below_zero_are_capped_whatever_the_reward(batches, reward, credit):
    plain = batches.fill(alone(("chunk", 3)) * 4, seed=1, mismatch=0, rewards=(reward,))
    plain = batches.with_chunks(plain, lambda _, chunk: replace(chunk, credit=credit))
    batch = batches.tensors(plain)
    gradient = batches.gradients(batch, loss(batch))
    ratios = [geometric_mean(chunk, "policy", "old") for each in plain for chunk in each.chunks]
    assert min(ratios) < 1 < max(ratios)
    expected = [-credit * min(ratio, 1.0) for ratio in ratios for _ in range(3)]
    assert near(list(gradient.values()), expected)


def imitation_gradients(batches, plain, normalisation, **fields):
    """What the optimizer sees of the imitated tokens: gradients over the denominator."""
    batch = batches.tensors(plain)
    output = loss(batch, normalisation, imitation_weight=1.0, **fields)
    gradient = batches.gradients(batch, output)
    return {token.id: gradient[token.id] / output.denominator for each in plain for token in each.imitated}


def masked(batches, plain, which):
    """The same trajectories, the mask leaving out those chunks that `which`(trajectory, chunk) is true of."""

    def changed(trajectory, chunk):
        gap = 1.0 if which(trajectory, chunk) else 0.0
        return batches.with_tokens(chunk, lambda token: replace(token, behaviour=token.old - gap))

    return batches.with_chunks(plain, changed)


ANCHORED = alone(("other", 2), ("expert", 3), ("chunk", 4), ("other", 1), ("chunk", 4))


@in_every_normalisation
def test_a_mask_that_leaves_nothing_changes_nothing_of_the_imitation_term(batches, normalisation):
    plain = batches.fill(ANCHORED * 3 + SAMPLE[:1], mismatch=0)
    whole = imitation_gradients(batches, plain, normalisation)
    assert all(whole.values())
    nothing = imitation_gradients(batches, masked(batches, plain, lambda *_: True), normalisation)
    assert near(nothing, whole)


@in_every_normalisation
def test_a_mask_that_takes_an_equal_share_of_all_changes_nothing_of_the_imitation_term(batches, normalisation):
    plain = batches.fill(ANCHORED * 3, mismatch=0)
    half = masked(batches, plain, lambda trajectory, chunk: chunk is trajectory.chunks[0])
    found, expected = (imitation_gradients(batches, each, normalisation) for each in (half, plain))
    assert near(found, expected)


def test_a_wholly_masked_trajectory_keeps_rl_exact_and_leaves_imitation_to_the_others(batches):
    plain = batches.fill(ANCHORED * 3, mismatch=0)
    partly = masked(batches, plain, lambda trajectory, _: trajectory is plain[0])
    batch = batches.tensors(partly)
    assert loss(batch, "token-mean", imitation_weight=1.0).denominator == pytest.approx(16, rel=1e-11)
    found, expected = (imitation_gradients(batches, each, "token-mean") for each in (partly, plain))
    first = {token.id for token in plain[0].imitated}
    assert near(found, {token: 0.0 if token in first else value * 1.5 for token, value in expected.items()})


@in_every_normalisation
def test_an_imitated_chunk_without_weight_may_hold_anything(batches, normalisation):
    plain = batches.fill(ANCHORED, mismatch=0)
    batch = batches.tensors(plain)
    batch = replace(batch, imitation_credit=torch.zeros_like(batch.imitation_credit))
    spoilt = batches.spoilt(batch, batch.imitation_mask)
    outputs = [loss(each, normalisation, imitation_weight=1.0) for each in (batch, spoilt)]
    assert outputs[0].total.item() == outputs[1].total.item()
    gradients = [batches.gradients(*pair) for pair in zip((batch, spoilt), outputs, strict=True)]
    assert gradients[0] == gradients[1]


def test_equal_policies_have_ratio_one_and_mask_nothing(batches):
    batch = batches.tensors(batches.fill(SAMPLE, stale=0, mismatch=0))
    batch = replace(
        batch, old_logprobs=batch.policy_logprobs.detach(), behaviour_logprobs=batch.policy_logprobs.detach()
    )
    chunks = ipa_terms(batch, IPASettings(mismatch_threshold=1.0)).chunks
    assert chunks.ratio.tolist() == [1.0] * 6
    assert chunks.keep.all()
    assert loss(batch).metrics["ipa/mask_share"] == (0.0, 6.0)
    assert loss(batch).metrics["ipa/kl"] == (0.0, 17.0)


@pytest.mark.parametrize("delta", [-2.0, 0.3, 5.0])
@pytest.mark.parametrize("length", [1, 3, 40])
def test_one_outlier_moves_the_ratio_by_its_share_of_the_chunk(batches, delta, length):
    batch = batches.tensors(batches.fill(alone(("other", 1), ("chunk", length))))
    moved = batch.policy_logprobs.detach().clone()
    moved[0, 1] += delta
    before, after = (
        ipa_terms(each, IPASettings()).chunks.ratio for each in (batch, replace(batch, policy_logprobs=moved))
    )
    assert near((after / before).item(), math.exp(delta / length))


def test_the_mask_is_one_sided_and_closed_at_the_threshold(batches):
    batch = batches.tensors(batches.fill(alone(("chunk", 2), ("chunk", 2), ("chunk", 2))))
    old = torch.full_like(batch.old_logprobs, -2.0)
    gap = torch.tensor([[0.0, 2 * math.log(2.0), 0.0, 2 * math.log(2.1), -9.0, -9.0]], dtype=torch.float64)
    keep = ipa_terms(
        replace(batch, old_logprobs=old, behaviour_logprobs=old - gap), IPASettings(mismatch_threshold=2.0 + 1e-12)
    ).chunks.keep
    assert keep.tolist() == [True, False, True]


def test_token_mean_divides_by_the_unmasked_tokens_alone(batches):
    batch = batches.tensors(batches.fill(alone(("other", 7), ("chunk", 3), ("chunk", 5)), mismatch=0))
    behaviour = batch.old_logprobs.clone()
    behaviour[0, 7:10] -= 1.0
    assert loss(replace(batch, behaviour_logprobs=behaviour), "token-mean").denominator == 5.0


def test_a_trajectory_of_many_rows_counts_once(batches):
    plain = batches.split_segments(batches.fill(SAMPLE, mismatch=0))
    batch = batches.tensors(plain)
    assert batch.token_ids.shape[0] > 2
    assert [loss(batch, each).denominator for each in NORMALISATIONS] == [2.0, 6.0, 2.0, 17.0]


def test_a_wholly_masked_batch_has_a_loss_without_gradient(batches):
    batch = batches.tensors(batches.fill(SAMPLE))
    batch = replace(batch, behaviour_logprobs=batch.old_logprobs - 1.0)
    for normalisation, denominator in zip(NORMALISATIONS, (2.0, 0.0, 0.0, 0.0), strict=True):
        output = loss(batch, normalisation)
        assert (output.total.item(), output.denominator) == (0.0, denominator)
        assert not any(batches.gradients(batch, output).values())


def test_a_batch_without_chunks_trains_the_imitation_term_alone(batches):
    plain = batches.fill(alone(("other", 2), ("expert", 3)))
    batch = batches.tensors(plain)
    output = loss(batch, imitation_weight=2.0)
    nll = -sum(token.policy for token in plain[0].imitated)
    worth = 2.0 * plain[0].replayed[0].credit
    assert near(output.total.item(), worth * nll)
    assert output.metrics == {"ipa/imitation_nll": pytest.approx((nll, 3.0))}
    assert batches.gradients(batch, output) == {1: 0.0, 2: 0.0, 3: -worth, 4: -worth, 5: -worth}


@in_every_normalisation
def test_a_backend_that_does_not_tell_replayed_chunks_apart_imitates_each_token_alike(batches, normalisation):
    batch = batches.tensors(batches.fill(SAMPLE))
    names = ("chunk_of_token", "credit", "trajectory", "position")
    untold = replace(batch, **{f"imitation_{name}": None for name in names})
    output = loss(untold, normalisation, rl_weight=0.0, imitation_weight=0.5)
    (gradient,) = torch.autograd.grad(output.total, batch.policy_logprobs)
    assert torch.equal(gradient, -0.5 * batch.imitation_mask.double())
    assert output.metrics["ipa/imitation_nll"] == loss(batch).metrics["ipa/imitation_nll"]


def test_replayed_chunks_change_nothing_without_an_imitation_weight(batches):
    batch = batches.tensors(batches.fill(SAMPLE))
    gradient = batches.gradients(batch, loss(batch))
    assert not any(gradient[token.id] for each in batches.fill(SAMPLE) for token in each.imitated)


@ragged
@data
def test_metrics_and_samples_describe_the_chunks(batches, data):
    plain = draw(batches, data)
    output = loss(batches.tensors(plain))
    pairs = [(each, chunk) for each in plain for chunk in each.chunks]
    ratios = [geometric_mean(chunk, "policy", "old") for _, chunk in pairs]
    mismatches = [geometric_mean(chunk, "old", "behaviour") for _, chunk in pairs]
    moved = [token.policy - token.old for _, chunk in pairs for token in chunk.tokens]
    capped = sum(
        (each.reward <= 0 or chunk.credit < 0) and kept(chunk) and ratio > 1
        for (each, chunk), ratio in zip(pairs, ratios, strict=True)
    )
    expected = {
        "ipa/mask_share": (sum(not kept(chunk) for _, chunk in pairs), len(pairs)),
        "ipa/mask_token_share": (sum(len(chunk.tokens) for _, chunk in pairs if not kept(chunk)), len(moved)),
        "ipa/ratio_mean": (sum(ratios), len(pairs)),
        "ipa/ratio_clipped_share": (capped, len(pairs)),
        "ipa/mismatch_mean": (sum(mismatches), len(pairs)),
        "ipa/kl": (sum(math.exp(gap) - 1 - gap for gap in moved), len(moved)),
    }
    found = {name: pair for name, pair in output.metrics.items() if name != "ipa/imitation_nll"}
    assert found.keys() == (expected.keys() if pairs else set())
    assert all(near(pair, expected[name]) for name, pair in found.items())
    assert near(output.samples["ipa/chunk_ratio"], ratios)
    assert near(output.samples["ipa/chunk_mismatch"], mismatches)


def test_chunks_without_tokens_are_no_chunks(batches):
    batch = batches.tensors(batches.fill(SAMPLE, mismatch=0))
    longer = replace(
        batch,
        chunk_credit=torch.cat([batch.chunk_credit, torch.ones(3, dtype=torch.float64)]),
        chunk_trajectory=torch.cat([batch.chunk_trajectory, torch.zeros(3, dtype=torch.int64)]),
    )
    for normalisation in NORMALISATIONS:
        same(batches, batch, longer, normalisation=normalisation)
