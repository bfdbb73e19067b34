"""Chooses the component that a command takes where it is given no name; knows no component by name."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tumbler.errors import ComponentNotFoundError
from tumbler.plugins.names import MOST_CANDIDATES
from tumbler.plugins.records import Component
from tumbler.specs import BackendRole, BackendSpec, ComponentKind

if TYPE_CHECKING:
    from tumbler.plugins.host import PluginHost

__all__ = ["default_component"]


def default_component(
    host: "PluginHost",
    kind: ComponentKind,
    *,
    option: str,
    role: BackendRole | None = None,
    fits: Callable[[Component], bool] = lambda _component: True,
) -> Component:
    """Return the one that declares itself the default, or else the only one there is.

    Args:
        host: whose components are chosen from.
        kind: of which kind.
        option: what names another one, for the error.
        role: of a backend.
        fits: whether a component can be used at all; components that are no default are asked only where nothing
            declares itself one.

    Raises `ComponentNotFoundError`, which lists what is installed, where there is none or no single one.
    """
    found = [each for each in host.components(kind) if role is None or role in _roles(each)]
    declared = [each for each in found if _is_default(each, role)]
    # Tumbler's own go first, so that installing a package changes no command's meaning.
    own = [each for each in declared if host.plugin(each.plugin).first_party]
    for group in (own, declared, found):
        fitting = [each for each in group if fits(each)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise ComponentNotFoundError(_ambiguous(fitting, role or kind, option, declared=group is not found))
    names = ", ".join(_ids(found)) or "none"
    raise ComponentNotFoundError(
        f"no installed plugin offers a {role or kind} that can be used here (installed: {names}); "
        f"`tumbler plugins` lists all, and {option} names one"
    )


def _is_default(component: Component, role: BackendRole | None) -> bool:
    spec = component.spec
    if role is None or not isinstance(spec, BackendSpec) or spec.default_roles is None:
        return spec.default
    return spec.default and role in spec.default_roles


def _ambiguous(found: Sequence[Component], what: str, option: str, *, declared: bool) -> str:
    alike = "declare themselves the default" if declared else "could be used, and none is the default"
    return f"{len(found)} components of the kind {what} {alike}: {', '.join(_ids(found))}; choose one with {option}"


def _ids(found: Sequence[Component]) -> list[str]:
    names = [each.id for each in found[:MOST_CANDIDATES]]
    return names if len(names) == len(found) else [*names, f"{len(found) - len(names)} more"]


def _roles(component: Component) -> tuple[BackendRole, ...]:
    return component.spec.roles if isinstance(component.spec, BackendSpec) else ()
