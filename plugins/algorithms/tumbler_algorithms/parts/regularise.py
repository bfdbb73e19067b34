"""Penalties on every trained token: divergence from another policy, and lack of entropy. Knows no algorithm.

B rows, T tokens. The penalty is added to an algorithm's token losses, and normalised with them:

    penalty = regularise(batch, settings)
    loss = total((token_losses + penalty.loss) * spread(scale, batch))
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tumbler.contracts.batch import TokenBatch
from tumbler.errors import ContractError
from tumbler_algorithms.parts.exponential import bounded_expm1
from tumbler_algorithms.parts.metrics import Pairs
from tumbler_algorithms.parts.segments import row_blocks
from tumbler_algorithms.parts.settings import KLEstimator, KLReference, RegularisationSettings
from tumbler_algorithms.parts.tokens import count, log_ratio, only_inside, total

__all__ = ["Penalty", "divergence", "regularise", "total_divergence"]


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """What is added to the losses of the tokens."""

    loss: Tensor
    """[B, T] with gradient, 0 outside of chunks; or [] and 0 where nothing is asked for."""
    pairs: Pairs
    """Metrics, for `report`: the mean divergence and entropy, each before its weight."""


def regularise(batch: TokenBatch, settings: RegularisationSettings) -> Penalty:
    """Return kl_weight · KL - entropy_weight · H of each trained token.

    Raises:
        ContractError: the batch lacks what the settings ask for.
    """
    loss = batch.policy_logprobs.new_zeros(())
    tokens = count(batch)
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    if settings.kl_weight > 0:
        kl = divergence(batch, settings.kl_estimator, settings.kl_reference)
        pairs["kl"] = (total(kl.detach()), tokens)
        loss = loss + settings.kl_weight * kl
    if settings.entropy_weight > 0:
        entropies = _required(batch.entropies, "entropies", "entropy", "entropy_weight = 0")
        entropies = only_inside(entropies, batch)
        pairs["entropy"] = (total(entropies.detach()), tokens)
        loss = loss - settings.entropy_weight * entropies
    return Penalty(loss=loss, pairs=pairs)


def divergence(batch: TokenBatch, estimator: KLEstimator, reference: KLReference) -> Tensor:
    """Return an estimate of the divergence at each trained token, 0 elsewhere; [B, T] with gradient.

    With x the log-ratio of the other policy to the one that the tokens were drawn from, the estimators
    (Schulman, "Approximating KL divergence", 2020) are k1 = -x, k2 = x²/2 and k3 = eˣ - 1 - x; k1 and k3 have
    no bias, k3 and k2 little variance and no negative values. What their gradients are is another matter:

    - `initial`: tokens count as drawn from π_θ, so the estimate is of KL(π_θ‖initial). On average the gradient
      of k1 is 0, so that it regularises nothing; that of k2 is the right one; that of k3 is the gradient of
      KL(initial‖π_θ), close to the right one while the two policies are close.
    - `old`, `behaviour`: tokens were drawn from the reference, so the estimate is of KL(reference‖π_θ). k3 has the
      right gradient; so does k1, with far more variance; k2 has it only while the two policies are close.

    Raises:
        ContractError: the batch lacks the reference's log-probabilities.
    """
    policy = batch.policy_logprobs
    if reference == "initial":
        initial = _required(batch.reference_logprobs, "reference_logprobs", "reference", "kl_weight = 0")
        x = log_ratio(initial.detach(), policy, batch)
    else:
        drawn_from = batch.old_logprobs if reference == "old" else batch.behaviour_logprobs
        x = log_ratio(policy, drawn_from.detach(), batch)
    if estimator == "k1":
        return -x
    return x * x / 2 if estimator == "k2" else bounded_expm1(x) - x


@torch.no_grad()
def total_divergence(batch: TokenBatch) -> Tensor:
    """Return the sum over all trained tokens of the k3 estimate of KL(π_old‖π_θ), a metric; [] float64."""
    divergences = torch.zeros((), dtype=torch.float64, device=batch.policy_logprobs.device)
    for block in row_blocks(batch.policy_logprobs):
        x = batch.policy_logprobs[block] - batch.old_logprobs[block]
        divergences += total((torch.expm1(x) - x).masked_fill_(batch.chunk_of_token[block] < 0, 0.0))
    return divergences


def _required(values: Tensor | None, field: str, flag: str, way_out: str) -> Tensor:
    if values is None:
        raise ContractError(
            f"TokenBatch.{field} is None, but the loss needs it: set UpdateRule.{flag} in the algorithm's "
            f"`update_rule`, train with a backend that provides it, or set {way_out}"
        )
    return values
