"""KL and entropy penalties: their values, their gradients, and what the gradients are on average."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tumbler.errors import ContractError
from tumbler_algorithms.parts.metrics import report
from tumbler_algorithms.parts.regularise import divergence, regularise, total_divergence
from tumbler_algorithms.parts.settings import RegularisationSettings

ESTIMATORS = ("k1", "k2", "k3")
REFERENCES = ("initial", "old", "behaviour")
ONE_CHUNK = (((("other", 1), ("chunk", 3)),),)


def estimate(token, estimator, reference):
    """The value, and its derivative by log π_θ."""
    initial = reference == "initial"
    x = token.initial - token.policy if initial else token.policy - getattr(token, reference)
    value = {"k1": -x, "k2": x * x / 2, "k3": math.exp(x) - 1 - x}[estimator]
    slope = {"k1": -1.0, "k2": x, "k3": math.exp(x) - 1}[estimator]
    return value, -slope if initial else slope


@given(data=st.data(), estimator=st.sampled_from(ESTIMATORS), reference=st.sampled_from(REFERENCES))
def test_the_penalty_and_its_gradients_are_those_of_the_definitions(batches, data, estimator, reference):
    plain, batch = data.draw(batches.token_batches())
    settings = RegularisationSettings(kl_weight=0.3, kl_estimator=estimator, kl_reference=reference, entropy_weight=0.2)
    penalty = regularise(batch, settings)
    output = SimpleNamespace(total=penalty.loss.sum())
    tokens = [token for each in plain for chunk in each.chunks for token in chunk.tokens]
    estimates = {token.id: estimate(token, estimator, reference) for token in tokens}
    kl, entropy = math.fsum(value for value, _ in estimates.values()), math.fsum(token.entropy for token in tokens)
    assert output.total.item() == pytest.approx(0.3 * kl - 0.2 * entropy, rel=1e-9, abs=1e-9)
    found = batches.gradients(batch, output)
    expected = {token: 0.3 * estimates[token][1] if token in estimates else 0.0 for token in found}
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    found = batches.gradients(batch, output, of="entropies")
    assert found == {token: -0.2 if token in estimates else 0.0 for token in found}
    if tokens:
        assert report(penalty.pairs) == {
            "kl": (pytest.approx(kl, abs=1e-9), len(tokens)),
            "entropy": (pytest.approx(entropy), len(tokens)),
        }


def expected_gradient(batches, estimator, reference):
    """The mean gradient of an estimate over all outcomes of one draw, and the gradients of KL either way.

    Each row of the batch is one outcome of eight, weighed by how likely it is under who draws.
    """
    torch.manual_seed(3)
    batch = batches.tensors(batches.fill(((((("chunk", 1),),)),) * 8))
    logits = torch.randn(8, dtype=torch.float64, requires_grad=True)
    policy = logits.log_softmax(0)
    other = (logits.detach() + torch.randn(8)).log_softmax(0)
    fields = {"initial": "reference_logprobs", "old": "old_logprobs", "behaviour": "behaviour_logprobs"}
    batch = replace(batch, policy_logprobs=policy[:, None], **{fields[reference]: other[:, None]})
    drawn_by = policy.detach() if reference == "initial" else other
    mean = (drawn_by.exp() * divergence(batch, estimator, reference)[:, 0]).sum()
    forward = (other.exp() * (other - policy)).sum()
    reverse = (policy.exp() * (policy - other)).sum()
    return [torch.autograd.grad(each, logits, retain_graph=True)[0] for each in (mean, reverse, forward)]


@pytest.mark.parametrize(("estimator", "gradient_of"), [("k1", "nothing"), ("k2", "reverse"), ("k3", "forward")])
def test_on_average_only_k2_has_the_gradient_of_the_divergence_to_the_initial_policy(batches, estimator, gradient_of):
    mean, reverse, forward = expected_gradient(batches, estimator, "initial")
    expected = {"nothing": torch.zeros(8, dtype=torch.float64), "reverse": reverse, "forward": forward}[gradient_of]
    assert torch.allclose(mean, expected, atol=1e-12)
    assert not torch.allclose(reverse, forward, atol=1e-3)


@pytest.mark.parametrize(("estimator", "right"), [("k1", True), ("k2", False), ("k3", True)])
@pytest.mark.parametrize("reference", ["old", "behaviour"])
def test_on_average_k1_and_k3_have_the_gradient_of_the_divergence_from_who_sampled(
    batches, estimator, reference, right
):
    mean, _, forward = expected_gradient(batches, estimator, reference)
    assert torch.allclose(mean, forward, atol=1e-12) is right


def test_nothing_is_added_by_default(batches):
    batch = batches.tensors(batches.fill(ONE_CHUNK))
    penalty = regularise(replace(batch, reference_logprobs=None, entropies=None), RegularisationSettings())
    assert penalty.loss.item() == 0
    assert not penalty.pairs


@pytest.mark.parametrize(
    ("settings", "field", "flag"),
    [
        (RegularisationSettings(kl_weight=0.1), "reference_logprobs", "UpdateRule.reference"),
        (RegularisationSettings(entropy_weight=0.1), "entropies", "UpdateRule.entropy"),
    ],
)
def test_a_batch_that_lacks_what_is_asked_for_is_refused_and_says_what_to_set(batches, settings, field, flag):
    batch = replace(batches.tensors(batches.fill(ONE_CHUNK)), **{field: None})
    with pytest.raises(ContractError, match=field) as caught:
        regularise(batch, settings)
    assert flag in str(caught.value)


def test_settings_say_what_the_loss_reads():
    def needs(**fields):
        settings = RegularisationSettings(**fields)
        return settings.needs_reference, settings.needs_entropy

    assert needs() == (False, False)
    assert needs(kl_weight=0.1) == (True, False)
    assert needs(kl_weight=0.1, kl_reference="old", entropy_weight=0.1) == (False, True)


@given(data=st.data())
def test_the_total_divergence_is_the_sum_of_k3_from_the_policy_that_sampled(batches, data):
    plain, batch = data.draw(batches.token_batches())
    tokens = [token for each in plain for chunk in each.chunks for token in chunk.tokens]
    total = math.fsum(estimate(token, "k3", "old")[0] for token in tokens)
    assert total_divergence(batch).item() == pytest.approx(total, rel=1e-9, abs=1e-9)
