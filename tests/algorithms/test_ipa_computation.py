"""IPA's loss as a computation: precision, compilation, and how much it reports."""

import pytest
import torch

from tumbler_algorithms.ipa.loss import chunk_weights, ipa_loss, ipa_terms
from tumbler_algorithms.ipa.settings import IPASettings

RAGGED = ((("other", 2), ("expert", 3), ("chunk", 3), ("chunk", 2)), (("chunk", 4),)), ((("chunk", 1), ("chunk", 5)),)


def alone(*runs):
    """The layout of one trajectory with one segment."""
    return ((runs,),)


def test_samples_are_bounded_and_drawn_from_the_whole_batch(batches):
    batch = batches.tensors(batches.fill(alone(*[("chunk", 1)] * 1000)))
    ratios = ipa_loss(batch, IPASettings()).samples["ipa/chunk_ratio"]
    assert 200 <= len(ratios) <= 256
    assert ratios == chunk_weights(batch, 2.0).ratio[::4].tolist()


def test_long_chunks_in_single_precision_keep_their_ratio(batches):
    batch = batches.tensors(batches.fill(alone(("chunk", 60_000))), dtype=torch.float32)
    exact = (batch.policy_logprobs.detach() - batch.old_logprobs).double().mean().exp()
    assert chunk_weights(batch, 2.0).ratio.item() == pytest.approx(exact.item(), rel=1e-12)


def test_single_precision_gradients_agree_with_double(batches):
    plain = batches.fill(RAGGED)
    single, double = batches.tensors(plain, dtype=torch.float32), batches.tensors(plain)
    found = batches.gradients(single, ipa_loss(single, IPASettings()))
    assert found == pytest.approx(batches.gradients(double, ipa_loss(double, IPASettings())), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("normalisation", ["sum", "chunk-mean", "trajectory-mean", "token-mean"])
def test_the_loss_compiles_into_one_graph(batches, normalisation):
    fields = IPASettings(normalisation=normalisation, imitation_weight=0.5)
    batch = batches.tensors(batches.fill(RAGGED))
    compiled = torch.compile(ipa_terms, fullgraph=True, backend="eager")(batch, fields)
    assert compiled.total.item() == pytest.approx(ipa_terms(batch, fields).total.item(), rel=1e-12)
