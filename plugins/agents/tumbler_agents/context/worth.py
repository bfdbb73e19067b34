"""Whether a rewrite is worth the cache that it costs, so that a strategy asks for none that would be refused."""

from tumbler.contracts.context import Budget

__all__ = ["least_freed"]

_PROGRESS = 0.1
"""Part of what is used; the pipeline refuses a rewrite that frees less."""


def least_freed(budget: Budget) -> int:
    """Return how many tokens a rewrite must free at least."""
    return max(int(budget.used * _PROGRESS) + 1, budget.clear_at_least)
