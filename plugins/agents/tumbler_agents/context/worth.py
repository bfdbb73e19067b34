"""Whether a rewrite is due, and worth its cost in cache, so that a strategy asks for none that would be refused."""

from typing import Final

from tumbler.contracts.context import Budget, Trigger

__all__ = ["MOST_IN_A_ROW", "is_due", "is_full", "least_freed"]

MOST_IN_A_ROW: Final = 2
"""Rewrites on consecutive prompts, after which the pipeline refuses another unless it makes the prompt fit."""
_PROGRESS: Final = 0.1
"""Part of what is used; the pipeline refuses a rewrite that frees less, likewise."""


def is_full(budget: Budget) -> bool:
    """Return whether the prompt does not fit: then any rewrite that mends it is worth its cost."""
    return budget.used > budget.limit


def is_due(budget: Budget, why: Trigger, threshold: float, in_a_row: int) -> bool:
    """Return whether to rewrite: at the threshold or on request, but no third time in a row while the prompt fits."""
    wanted = budget.used >= threshold * budget.limit or why in ("tool_request", "user_request")
    return wanted and (in_a_row < MOST_IN_A_ROW or is_full(budget))


def least_freed(budget: Budget) -> int:
    """Return how many tokens a rewrite must free at least."""
    return max(int(budget.used * _PROGRESS) + 1, budget.clear_at_least)
