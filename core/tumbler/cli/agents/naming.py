"""Names of backends as components, and what is taken where none is named; builds none."""

from collections.abc import Iterable

from tumbler.cli.sandboxes.reach import Shelf
from tumbler.plugins.defaults import default_component
from tumbler.specs import BackendRole

__all__ = ["backend_or_default", "component_of"]


def component_of(shelf: Shelf, name: str) -> str:
    """Return the component that a name stands for: what a table under [backends] uses, or itself."""
    tables = {} if shelf.registry is None else shelf.registry.tables.backends
    return tables[name].use if name in tables else name


def backend_or_default(
    shelf: Shelf, name: str | None, role: BackendRole, *, option: str, settings: Iterable[str] = ()
) -> tuple[Shelf, str]:
    """Return a backend's name, and the shelf that it stands on.

    None is the installed default of the role that knows these settings. It stands on a shelf without a registry: no
    table that happens to have its name changes what it does. Raises `ComponentNotFoundError` where there is none.
    """
    if name is not None:
        return shelf, name
    needed, host = set(settings), shelf.host
    found = default_component(
        host,
        "backend",
        role=role,
        option=option,
        fits=lambda each: needed <= host.settings_model("backend", each.id).model_fields.keys(),
    )
    return Shelf(host=host), found.id
