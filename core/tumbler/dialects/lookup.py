"""The dialects by name; knows nothing of how they write."""

from collections.abc import Mapping
from types import MappingProxyType

from tumbler.contracts.chat import Dialect
from tumbler.dialects.hermes import HermesDialect
from tumbler.dialects.plain import PlainDialect
from tumbler.errors import ComponentNotFoundError
from tumbler.plugins.names import did_you_mean

__all__ = ["DIALECTS", "dialect"]

DIALECTS: Mapping[str, Dialect] = MappingProxyType({each.name: each for each in (HermesDialect(), PlainDialect())})
"""All dialects; they keep no state, so that one of each is enough."""


def dialect(name: str) -> Dialect:
    """Return the dialect of that name; raise `ComponentNotFoundError` if there is none."""
    try:
        return DIALECTS[name]
    except KeyError:
        raise ComponentNotFoundError(f"there is no dialect {name!r}. {did_you_mean(name, DIALECTS)}") from None
