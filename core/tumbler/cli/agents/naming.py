"""Names of backends as components; builds none."""

from tumbler.cli.sandboxes.reach import Shelf

__all__ = ["component_of"]


def component_of(shelf: Shelf, name: str) -> str:
    """Return the component that a name stands for: what a table under [backends] uses, or itself."""
    tables = {} if shelf.registry is None else shelf.registry.tables.backends
    return tables[name].use if name in tables else name
