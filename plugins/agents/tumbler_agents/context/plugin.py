"""Registers the first-party context strategies."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import ContextStrategySpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.context import ContextStrategy


def _load_none() -> "type[ContextStrategy]":
    from tumbler_agents.context.none import NoStrategy

    return NoStrategy


def _no_settings() -> "type[Settings]":
    from tumbler.config import NoSettings

    return NoSettings


@hookimpl
def tumbler_context_strategies() -> list[ContextStrategySpec]:
    """Provide the strategy `none`."""
    return [
        ContextStrategySpec(
            name="none",
            summary="Append only; a conversation that no longer fits is a typed error.",
            load=_load_none,
            config=_no_settings,
        )
    ]
