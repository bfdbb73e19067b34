"""Draw the next token of each row and report its log-probability; knows no model and no cache.

Axes: R rows, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tumbler.contracts.inference import Sampling

__all__ = ["sample"]


def sample(logits: Tensor, rules: Sequence[Sampling], uniforms: Sequence[float]) -> tuple[list[int], list[float]]:
    """Return one token id and its log-probability for each row of `logits` [R, V].

    A row's token is where its cumulative distribution passes its number of `uniforms` (in [0, 1)), so that
    one number decides and rows do not touch each other. The log-probability is that of the distribution
    drawn from; greedy rows report the one at temperature 1. Rows whose logits are not finite report NaN.
    """
    greedy = torch.tensor([rule.temperature == 0 for rule in rules], device=logits.device)
    temperatures = [rule.temperature or 1.0 for rule in rules]
    scaled = logits.float() / torch.tensor(temperatures, device=logits.device)[:, None]
    filtered = [row for row, rule in enumerate(rules) if rule.temperature and (rule.top_k or rule.top_p < 1)]
    for row in filtered:
        scaled[row] = _keep_likely(scaled[row], rules[row])
    logprobs = scaled.log_softmax(-1)
    # In float64, because the rounding of a long float32 sum could hide an unlikely token.
    cumulative = logprobs.exp().cumsum(-1, dtype=torch.float64)
    points = cumulative[:, -1] * torch.tensor(uniforms, dtype=torch.float64, device=logits.device)
    drawn = torch.searchsorted(cumulative, points[:, None], right=True).squeeze(1).clamp_(max=logits.shape[1] - 1)
    drawn = torch.where(greedy, scaled.argmax(-1), drawn)
    return drawn.tolist(), logprobs.gather(1, drawn[:, None]).squeeze(1).tolist()


def _keep_likely(logits: Tensor, rule: Sampling) -> Tensor:
    """Return `logits` [V] with -inf for all that `top_k`, and then `top_p`, leave out."""
    ordered, order = logits.sort(descending=True, stable=True)
    if rule.top_k:
        ordered[rule.top_k :] = -torch.inf
    if rule.top_p < 1:
        before = ordered.softmax(-1).cumsum(-1).roll(1)
        before[0] = 0.0  # the likeliest token always stays
        ordered[before >= rule.top_p] = -torch.inf
    return torch.empty_like(logits).scatter_(0, order, ordered)
