"""IPA's loss as a computation: precision, compilation, and how much it reports."""

import pytest
import torch

from tumbler_algorithms.ipa.loss import ipa_loss, ipa_terms
from tumbler_algorithms.ipa.settings import IPASettings

RAGGED = ((("other", 2), ("expert", 3), ("chunk", 3), ("chunk", 2)), (("chunk", 4),)), ((("chunk", 1), ("chunk", 5)),)


def alone(*runs):
    """The layout of one trajectory with one segment."""
    return ((runs,),)


def test_samples_are_bounded_and_drawn_from_the_whole_batch(batches):
    batch = batches.tensors(batches.fill(alone(*[("chunk", 1)] * 1000)))
    ratios = ipa_loss(batch, IPASettings()).samples["ipa/chunk_ratio"]
    assert 200 <= len(ratios) <= 256
    assert ratios == ipa_terms(batch, IPASettings()).chunks.ratio[::4].tolist()


def test_long_chunks_in_single_precision_keep_their_ratio(batches):
    batch = batches.tensors(batches.fill(alone(("chunk", 60_000))), dtype=torch.float32)
    exact = (batch.policy_logprobs.detach().double() - batch.old_logprobs.double()).mean().exp()
    assert ipa_terms(batch, IPASettings()).chunks.ratio.item() == pytest.approx(exact.item(), rel=1e-12)


def test_single_precision_gradients_agree_with_double(batches):
    plain = batches.fill(RAGGED)
    single, double = batches.tensors(plain, dtype=torch.float32), batches.tensors(plain)
    found = batches.gradients(single, ipa_loss(single, IPASettings()))
    assert found == pytest.approx(batches.gradients(double, ipa_loss(double, IPASettings())), rel=1e-5, abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # what torch itself does
@pytest.mark.parametrize(
    ("normalisation", "mask_level"),
    [("sum", "chunk"), ("chunk-mean", "token"), ("trajectory-mean", "trajectory"), ("constant", "none")],
)
def test_the_loss_compiles_into_one_graph(batches, normalisation, mask_level):
    fields = IPASettings(
        normalisation=normalisation,
        constant_length=7 if normalisation == "constant" else None,
        mask_level=mask_level,
        imitation_weight=0.5,
        kl_weight=0.1,
        entropy_weight=0.1,
    )
    batch = batches.tensors(batches.fill(RAGGED))
    torch.compiler.reset()
    compiled = torch.compile(ipa_terms, fullgraph=True, backend="eager")(batch, fields)
    assert compiled.total.item() == pytest.approx(ipa_terms(batch, fields).total.item(), rel=1e-12)
