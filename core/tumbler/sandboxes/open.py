"""Open a sandbox backend by its component id; knows no backend."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from tumbler.contracts.sandbox import SandboxBackend
from tumbler.errors import ComponentNotFoundError
from tumbler.plugins import PluginHost
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.values import JSON

__all__ = ["build_backend", "open_backend"]


def build_backend(
    component_id: str, settings: "Settings | Mapping[str, JSON] | None" = None, *, host: PluginHost | None = None
) -> SandboxBackend:
    """Return a sandbox backend that is not started.

    Args:
        component_id: the backend's component id, such as `bubblewrap`.
        settings: its settings, or what `registry.toml` would say of them; None is the defaults.
        host: where plugins are looked up; None finds all that are installed.

    Raises:
        ComponentNotFoundError: there is no such backend, or it makes no sandboxes.
        RegistryError: the settings do not fit.
    """
    host = host or PluginHost.load()
    spec = host.component("backend", component_id).spec
    if not isinstance(spec, BackendSpec) or "sandbox" not in spec.roles:
        others = [each.id for each in host.components("backend") if "sandbox" in getattr(each.spec, "roles", ())]
        raise ComponentNotFoundError(
            f"the backend {component_id!r} makes no sandboxes; those that do: {', '.join(others)}"
        )
    built = host.build("backend", component_id, settings if settings is not None else {})
    # The host has checked it against the protocols of its roles; `isinstance` would read properties of a backend
    # that is not started.
    return cast("SandboxBackend", built)


@asynccontextmanager
async def open_backend(
    component_id: str, settings: "Settings | Mapping[str, JSON] | None" = None, *, host: PluginHost | None = None
) -> AsyncIterator[SandboxBackend]:
    """Start a sandbox backend for an `async with` block, and close it with all its sandboxes at the end.

    The arguments and errors are those of `build_backend`, and those of the backend's `start`.
    """
    backend = build_backend(component_id, settings, host=host)
    try:
        await backend.start()
        yield backend
    finally:
        await backend.close()
