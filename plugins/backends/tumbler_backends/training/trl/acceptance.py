"""Which algorithms TRL's loss can stand in for; knows neither TRL nor tensors."""

import logging

from tumbler.contracts.algorithm import Algorithm
from tumbler.errors import RunError

__all__ = ["accept"]

_LOG = logging.getLogger(__name__)


def accept(algorithm: Algorithm, *, loss_type: str, first: bool) -> None:
    """Raise `RunError` unless the algorithm asks for nothing but advantages and passes over the batch.

    Args:
        algorithm: whose `loss` is not called.
        loss_type: TRL's loss, which is taken in its place.
        first: whether to log that it is.
    """
    name, rule = type(algorithm).__name__, algorithm.update_rule
    obstacles = {
        "trains a value head": rule.values,
        "adds a term to the entropy": rule.entropy,
        "reads a reference policy (TRL's own divergence from one is the setting `loss.beta`)": rule.reference,
        "imitates experts": algorithm.wants_experts,
        "takes the old policy from snapshots (set its old_policy to 'recompute' or 'behaviour')": (
            rule.old_policy == "snapshot"
        ),
    }
    found = [obstacle for obstacle, there in obstacles.items() if there]
    if found:
        raise RunError(
            f"the training backend trl cannot stand in for the loss of {name}, which {' and '.join(found)}; take an "
            'algorithm whose credit is one value per trajectory, such as "grpo", or the training backend "torch"'
        )
    if first:
        _LOG.warning("TRL's loss %r is trained in place of the one of %s, whose settings it ignores", loss_type, name)
