"""The draw of a token, against the definitions of temperature, top-k and top-p."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tumbler.contracts.inference import Sampling
from tumbler_backends.inference.transformers.sampling import sample

LOGITS = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]).log()


def draws(rule, count=2000):
    uniforms = [(index + 0.5) / count for index in range(count)]
    return sample(LOGITS.repeat(count, 1), [rule] * count, uniforms)


def frequencies(rule):
    tokens, _ = draws(rule)
    return torch.bincount(torch.tensor(tokens), minlength=5) / len(tokens)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Sampling(), [0.5, 0.2, 0.15, 0.1, 0.05]),
        (Sampling(top_k=2), [5 / 7, 2 / 7, 0, 0, 0]),
        (Sampling(top_p=0.6), [5 / 7, 2 / 7, 0, 0, 0]),
        (Sampling(top_p=0.01), [1, 0, 0, 0, 0]),
        (Sampling(top_k=3, top_p=0.8), [5 / 7, 2 / 7, 0, 0, 0]),
        (Sampling(temperature=0), [1, 0, 0, 0, 0]),
        (Sampling(temperature=0.5), [0.25 / 0.325, 0.04 / 0.325, 0.0225 / 0.325, 0.01 / 0.325, 0.0025 / 0.325]),
    ],
)
def test_tokens_are_drawn_as_often_as_the_rules_say(rule, expected):
    torch.testing.assert_close(frequencies(rule), torch.tensor(expected, dtype=torch.float), atol=1e-3, rtol=0)


@pytest.mark.parametrize("rule", [Sampling(), Sampling(top_k=2), Sampling(temperature=0.5, top_p=0.9)])
def test_the_logprob_is_that_of_the_distribution_drawn_from(rule):
    tokens, logprobs = draws(rule)
    expected = frequencies(rule)[tokens].log()
    torch.testing.assert_close(torch.tensor(logprobs), expected, atol=0.02, rtol=0)


def test_greedy_rows_report_the_logprob_at_temperature_one():
    _, logprobs = sample(LOGITS[None], [Sampling(temperature=0, top_k=1)], [0.3])
    assert logprobs[0] == pytest.approx(LOGITS[0].item(), abs=1e-6)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=6))
def test_rows_do_not_touch_each_other(uniforms):
    rules = [Sampling(temperature=0.5 * row, top_k=row % 3, top_p=1 - row / 10) for row in range(len(uniforms))]
    together = sample(LOGITS.repeat(len(uniforms), 1), rules, uniforms)
    alone = [sample(LOGITS[None], [rule], [uniform]) for rule, uniform in zip(rules, uniforms, strict=True)]
    assert together == ([tokens[0] for tokens, _ in alone], [logprobs[0] for _, logprobs in alone])


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_impossible_tokens_are_not_drawn_at_the_ends(uniform):
    logits = torch.tensor([[-torch.inf, 1.0, -torch.inf, 2.0, -torch.inf]])
    tokens, logprobs = sample(logits, [Sampling()], [uniform])
    assert tokens[0] in (1, 3)
    assert logprobs[0] > -2


def test_logits_that_are_not_finite_spoil_their_own_row_only():
    logits = torch.stack([LOGITS, LOGITS * torch.nan, LOGITS])
    tokens, logprobs = sample(logits, [Sampling()] * 3, [0.1] * 3)
    assert (tokens[0], tokens[2]) == (0, 0)
    assert logprobs[1] != logprobs[1]
