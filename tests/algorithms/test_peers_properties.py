"""What must hold for every peer: shapes change nothing, masks and zero advantages silence, equal policies agree."""

import importlib
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

CLIPPED = ("grpo", "gspo", "gigpo")
WEIGHTED = ("reinforce", "tis", "topr", "cispo", "ipa_token", "ipa_trajectory")
FIELDS = {
    "grpo": {"ratio_level": "trajectory", "dual_clip": 2.0, "kl_weight": 0.1},
    "gspo": {"clip_low": 0.2, "clip_high": 0.2},
    "ppo": {"correction": {"weight": "token"}},
    "tis": {"ratio_level": "chunk", "entropy_weight": 0.1},
    "topr": {"kl_weight": 0.1},
    "cispo": {"correction": {"mask": "chunk", "high": 1.3}},
}
for_every_peer = pytest.mark.parametrize("name", [*CLIPPED, *WEIGHTED, "ppo"])
ragged = settings(max_examples=8)  # for each peer anew
data = given(data=st.data())


def loss(batch, name, **fields):
    (spec,) = importlib.import_module(f"tumbler_algorithms.{name}.plugin").tumbler_algorithms()
    return spec.load()(spec.config()(**fields)).loss(batch)


def near(value, expected):
    return value == pytest.approx(expected, rel=1e-9, abs=1e-9)


def same(batches, name, one, other):
    outputs = [loss(batch, name, **FIELDS.get(name, {})) for batch in (one, other)]
    for field in ("policy_logprobs", "values") if name == "ppo" else ("policy_logprobs",):
        gradients = [batches.gradients(*pair, of=field) for pair in zip((one, other), outputs, strict=True)]
        assert near(gradients[0], gradients[1])
    assert near(outputs[0].total.item(), outputs[1].total.item())
    assert outputs[0].denominator == outputs[1].denominator
    assert outputs[0].metrics.keys() == outputs[1].metrics.keys()
    assert all(near(outputs[1].metrics[key], pair) for key, pair in outputs[0].metrics.items())


@for_every_peer
@ragged
@data
def test_permuting_padding_packing_and_what_lies_elsewhere_change_nothing(batches, name, data):
    plain, seed = data.draw(batches.plain_batches()), data.draw(st.integers(0, 99))
    batch = batches.tensors(plain)
    same(batches, name, batch, batches.tensors(plain, shuffle=seed, padding=seed % 4))
    same(batches, name, batch, batches.tensors(plain, pack=True))
    same(batches, name, batch, batches.tensors(plain, noise=seed, padding=2))


@for_every_peer
@ragged
@data
def test_splitting_a_trajectory_into_segments_changes_nothing(batches, name, data):
    plain = data.draw(batches.plain_batches())
    batch = batches.tensors(plain)
    same(batches, name, batch, batches.tensors(batches.split_segments(plain)))
    same(batches, name, batch, batches.tensors(batches.join_segments(plain)))


@for_every_peer
@ragged
@data
def test_micro_batches_add_up_to_the_whole(batches, name, data):
    plain = data.draw(batches.plain_batches())
    cut, fields = data.draw(st.integers(0, len(plain))), FIELDS.get(name, {})
    whole = loss(batches.tensors(plain), name, **fields)
    parts = [loss(batches.tensors(part), name, **fields) for part in (plain[:cut], plain[cut:]) if part]
    total, denominator, metrics = batches.add_up(parts)
    assert near(whole.total.item(), total)
    assert whole.denominator == denominator
    assert whole.metrics.keys() == metrics.keys()
    assert all(near(whole.metrics[key], pair) for key, pair in metrics.items())


@pytest.mark.parametrize("name", [*CLIPPED, *WEIGHTED])
@ragged
@data
def test_no_advantage_gives_exactly_no_gradient_however_far_the_policy_went(batches, name, data):
    plain = data.draw(batches.plain_batches(stale=2000.0))
    batch = batches.tensors(batches.with_chunks(plain, lambda _, chunk: replace(chunk, credit=0.0)))
    output = loss(batch, name)
    assert output.total.item() == 0
    assert not any(batches.gradients(batch, output).values())


@pytest.mark.parametrize("level", ["token", "chunk", "trajectory"])
@for_every_peer
@ragged
@data
def test_what_the_correction_masks_has_exactly_no_gradient_and_does_not_count(batches, name, level, data):
    plain = data.draw(batches.plain_batches())
    batch = batches.tensors(plain)
    correction = {"mask": level, "low": 0.8, "high": 1.2}
    fields = {"mismatch_threshold": 1e9} if name.startswith("ipa") else {}
    output = loss(batch, name, normalisation="token-mean", correction=correction, kl_weight=0.1, **fields)
    found = batches.gradients(batch, output)
    masked = kept = 0
    for trajectory in plain:
        runs = trajectory.chunks
        everything = [token for run in runs for token in run.tokens]
        for run in runs:
            for token in run.tokens:
                group = {"token": [token], "chunk": run.tokens, "trajectory": everything}[level]
                gap = math.exp(sum(each.old - each.behaviour for each in group) / len(group))
                if 0.8 <= gap <= 1.2:
                    kept += 1
                else:
                    masked += 1
                    assert found[token.id] == 0
    assert output.denominator == kept
    share = [pair for key, pair in output.metrics.items() if key.endswith("/mask_share")]
    assert share == ([(masked, masked + kept)] if masked + kept else [])


@pytest.mark.parametrize("name", [*CLIPPED, "tis", "topr", "cispo", "ipa_trajectory"])
@ragged
@data
def test_equal_policies_have_the_gradient_of_reinforce(batches, name, data):
    """Where the policy is still the one that sampled, what is made of ratios plays no part."""
    plain = data.draw(batches.plain_batches(stale=0.0, mismatch=0.0))

    def one_credit(trajectory, chunk):
        # One for each trajectory, as these algorithms give, for a ratio of whole trajectories pushes by the mean.
        return replace(
            chunk,
            credit=trajectory.chunks[0].credit,
            tokens=tuple(replace(token, policy=token.old, behaviour=token.old) for token in chunk.tokens),
        )

    batch = batches.tensors(batches.with_chunks(plain, one_credit))
    rule = {"normalisation": "trajectory-mean"}
    expected, found = loss(batch, "reinforce", **rule), loss(batch, name, **rule)
    assert near(batches.gradients(batch, found), batches.gradients(batch, expected))
    assert all(near(value, count) for key, (value, count) in found.metrics.items() if key.endswith("/ratio_mean"))


@for_every_peer
def test_a_batch_without_chunks_has_neither_metrics_nor_gradient(batches, name):
    batch = batches.tensors(batches.fill(((((("other", 3),)),),)))
    output = loss(batch, name, normalisation="token-mean")
    assert (output.denominator, output.metrics) == (0.0, {})
    assert not any(batches.gradients(batch, output).values())


@pytest.mark.parametrize("name", ["topr", "ipa_token", "ipa_trajectory"])
@ragged
@data
def test_trajectories_that_succeeded_depend_on_no_ratio(batches, name, data):
    plain = data.draw(batches.plain_batches(rewards=(1.0,), mismatch=0.0))
    plain = batches.with_chunks(plain, lambda _, chunk: replace(chunk, credit=abs(chunk.credit)))
    batch = batches.tensors(plain)
    moved = replace(batch, old_logprobs=batch.old_logprobs - 0.5, behaviour_logprobs=batch.behaviour_logprobs - 0.5)
    one, other = loss(batch, name), loss(moved, name)
    assert near(one.total.item(), other.total.item())
    assert near(batches.gradients(batch, one), batches.gradients(moved, other))


@pytest.mark.parametrize("name", ["topr", "ipa_token", "ipa_trajectory"])
@ragged
@data
def test_trajectories_that_failed_never_weigh_more_than_they_would_without_a_ratio(batches, name, data):
    plain = data.draw(batches.plain_batches(rewards=(-1.0,)))
    plain = batches.with_chunks(plain, lambda _, chunk: replace(chunk, credit=-abs(chunk.credit)))
    batch = batches.tensors(plain)
    fields = {"normalisation": "sum", **({"gamma": 1.0} if name == "ipa_token" else {})}
    free = loss(batch, "ipa_token", normalisation="sum", gamma=1.0) if name == "ipa_token" else None
    plainly = loss(batch, "reinforce", normalisation="sum") if free is None else free
    tapered, bound = batches.gradients(batch, loss(batch, name, **fields)), batches.gradients(batch, plainly)
    assert all(0 <= tapered[token] <= bound[token] + 1e-12 for token in tapered)


@ragged
@data
def test_without_discount_a_success_of_one_chunk_is_reinforce(batches, data):
    plain = data.draw(batches.plain_batches(rewards=(1.0,), mismatch=0.0))
    plain = batches.with_chunks(plain, lambda _, chunk: replace(chunk, credit=abs(chunk.credit)))
    only = [replace(each, segments=(tuple(each.chunks[:1]),)) for each in plain]
    batch = batches.tensors(only)
    expected = batches.gradients(batch, loss(batch, "reinforce", normalisation="sum"))
    for name, fields in (("ipa_token", {"gamma": 1.0}), ("ipa_trajectory", {})):
        assert near(batches.gradients(batch, loss(batch, name, **fields)), expected)
