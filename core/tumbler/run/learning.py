"""What an algorithm learns from rollouts: observed in each step, kept in checkpoints, told in the stage's result."""

import json
from collections.abc import Sequence
from typing import cast

from tumbler.contracts.algorithm import AdaptiveAlgorithm, Algorithm, Group
from tumbler.contracts.values import JSON, JSONObject
from tumbler.errors import ContractError

__all__ = ["crucial_chunks", "learnt_state", "observe", "restore"]


def restore(algorithm: Algorithm, state: JSONObject) -> None:
    """Let an adaptive algorithm go on from the state; `{}` is the beginning."""
    if isinstance(algorithm, AdaptiveAlgorithm):
        algorithm.restore(state)


def observe(algorithm: Algorithm, groups: Sequence[Group]) -> dict[str, float]:
    """Show an adaptive algorithm the step's groups and return its metrics."""
    return dict(algorithm.observe(groups)) if isinstance(algorithm, AdaptiveAlgorithm) else {}


def learnt_state(algorithm: Algorithm) -> JSONObject:
    """Return what an adaptive algorithm has learnt, as JSON that is no longer its own; `{}` for any other."""
    if not isinstance(algorithm, AdaptiveAlgorithm):
        return {}
    try:
        return cast("JSONObject", json.loads(json.dumps(algorithm.state(), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise ContractError(
            f"state() of the algorithm {type(algorithm).__name__} cannot be written to a checkpoint as JSON: {error}"
        ) from error


def crucial_chunks(learnt: JSONObject) -> JSON:
    """Return what the algorithm says of crucial chunks (task id → chunk); None if it says nothing."""
    return learnt.get("crucial")
