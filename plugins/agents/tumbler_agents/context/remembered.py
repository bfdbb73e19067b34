"""Values of a strategy's state, read back with their types; knows no strategy."""

from tumbler.contracts.context import State
from tumbler.errors import ContractError

__all__ = ["read_count", "read_share"]


def read_share(state: State, key: str) -> float:
    """Return a number; raise `ContractError` where a state of another strategy was restored."""
    value = state.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ContractError(f"the state holds {value!r} for {key!r}, not a number; restore the strategy's own state")
    return value


def read_count(state: State, key: str) -> int:
    """Return a whole number; raise `ContractError` where a state of another strategy was restored."""
    return int(read_share(state, key))
