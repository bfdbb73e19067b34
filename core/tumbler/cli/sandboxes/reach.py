"""Finds the backend that a command names, and the sandbox in it; knows no backend."""

import argparse
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from tumbler.contracts.environment import Environment
from tumbler.contracts.sandbox import SandboxBackend
from tumbler.contracts.sandbox_control import CompleteSandbox, DetachableBackend, ManagedBackend
from tumbler.contracts.values import JSON, JSONObject
from tumbler.errors import CapabilityError, SandboxNotFound, SandboxUnavailable
from tumbler.plugins import PluginHost
from tumbler.registry import Registry, load_registry, reveal
from tumbler.registry.model import ComponentTable
from tumbler.registry.overrides import apply_overrides
from tumbler.specs import BackendRole, BackendSpec

__all__ = ["TOKEN_VARIABLE", "URL_VARIABLE", "Shelf", "add_backend_options", "find", "managed", "opened"]

URL_VARIABLE: Final = "TUMBLER_SANDBOX_URL"
TOKEN_VARIABLE: Final = "TUMBLER_SANDBOX_TOKEN"  # a name

_REGISTRY: Final = Path("registry.toml")


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """What is installed, and what a registry names."""

    host: PluginHost
    registry: Registry | None = field(default=None)

    @classmethod
    def of(cls, registry: Path | None) -> "Shelf":
        """Load the plugins that the registry allows: the file, or the folder's registry.toml if it has one."""
        if registry is None and not _REGISTRY.exists():
            return cls(host=PluginHost.load())
        read = load_registry(registry or _REGISTRY)
        lists = read.tables.plugins
        return cls(host=PluginHost.load(allow=lists.allow, disable=lists.disable), registry=read)

    def backend(self, name: str, settings: JSONObject, overrides: Sequence[str] = ()) -> object:
        """Build a backend: a table under [backends], or a component; raises as the plugin host does."""
        tables = {} if self.registry is None else self.registry.tables.backends
        component, known = _component(tables.get(name), name)
        chosen: dict[str, JSON] = {**known, **settings}
        apply_overrides(chosen, overrides)
        return self.host.build("backend", component, chosen)

    def at_once(self, name: str) -> JSONObject:
        """Return the settings with which a backend says at once that it cannot be reached."""
        tables = {} if self.registry is None else self.registry.tables.backends
        fields = self._fields(_component(tables.get(name), name)[0])
        return {"start_seconds": 0.0} if "start_seconds" in fields else {}

    def client(self) -> str:
        """Return the sandbox backend that speaks to a service: the one with the settings `url` and `token`."""
        return self._only(
            [each for each in self.backends("sandbox") if {"url", "token"} <= self._fields(each)], "client"
        )

    def service(self) -> str:
        """Return the id of the installed service."""
        return self._only(self.backends("service"), "service")

    def _fields(self, identity: str) -> frozenset[str]:
        return frozenset(self.host.settings_model("backend", identity).model_fields)

    def _only(self, found: Sequence[str], what: str) -> str:
        if len(found) != 1:
            raise SandboxUnavailable(
                f"{len(found)} plugins offer a {what} of the sandbox service ({', '.join(found) or 'none'}): name one"
            )
        return found[0]

    def backends(self, role: BackendRole) -> Sequence[str]:
        """Return the ids of the installed backends of a role."""
        found = self.host.components("backend")
        return [each.id for each in found if isinstance(each.spec, BackendSpec) and role in each.spec.roles]

    def names(self) -> Sequence[str]:
        """Return the environments: the tables under [envs], and the installed components."""
        tables = () if self.registry is None else self.registry.tables.envs
        return sorted({*tables, *(each.id for each in self.host.components("environment"))})

    def build(self, name: str, settings: JSONObject) -> Environment:
        """Build an environment: a table under [envs], or a component."""
        tables = {} if self.registry is None else self.registry.tables.envs
        component, known = _component(tables.get(name), name)
        return cast("Environment", self.host.build("environment", component, {**known, **settings}))


def add_backend_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where sandboxes are."""
    where = parser.add_argument_group("where")
    where.add_argument("--backend", metavar="NAME", help="a backend that is installed, or a table under [backends]")
    where.add_argument("--url", help=f"a sandbox service; default: ${URL_VARIABLE}. Its token is in ${TOKEN_VARIABLE}")
    where.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the backend")
    where.add_argument("--registry", type=Path, help="default: registry.toml, if any")


@asynccontextmanager
async def opened(args: argparse.Namespace, *, keep: bool = False) -> AsyncIterator[SandboxBackend]:
    """Start the backend that the options name, and end it.

    The sandboxes of a service or of an owner with a name live on. Those of anybody else are deleted; raises
    `CapabilityError` where one is to be kept then.
    """
    backend = _chosen(args)
    lasting = _lasting(backend)
    if keep and not lasting:
        raise CapabilityError(
            "the sandbox would end with this command: --keep needs a service (--url), or a backend whose owner has a "
            "name: --backend NAME --set owner=me"
        )
    try:
        await backend.start()
        yield backend
    finally:
        if lasting:
            await cast("DetachableBackend", backend).detach()
        else:
            await backend.close()


async def find(backend: SandboxBackend, identity: str) -> CompleteSandbox:
    """Return a living sandbox by id or name."""
    able = managed(backend)
    try:
        return await able.get(identity)
    except SandboxNotFound as error:
        if not able.capabilities.attach:
            raise
        # Whoever takes a sandbox over decides when it ends: without a name that would be now.
        if not _lasting(able):
            raise SandboxNotFound(f"{error}; say whose it is with --set owner=NAME") from error
    return await able.attach(identity)


def managed(backend: SandboxBackend) -> ManagedBackend:
    """Return the backend if it finds its sandboxes again; raise `CapabilityError` if not."""
    if not isinstance(backend, ManagedBackend):
        raise CapabilityError(f"{type(backend).__name__} does not list or find sandboxes; it only makes new ones")
    return backend


def _lasting(backend: SandboxBackend) -> bool:
    """Tell whether the sandboxes can outlive this process."""
    # No `isinstance`: it would ask a backend that is not started for its capabilities.
    return bool(getattr(backend, "detachable", False))


def _chosen(args: argparse.Namespace) -> SandboxBackend:
    shelf = Shelf.of(args.registry)
    url, token = args.url or os.environ.get(URL_VARIABLE) or None, os.environ.get(TOKEN_VARIABLE) or None
    if args.backend is not None and args.url is None:
        return cast("SandboxBackend", shelf.backend(args.backend, {}, args.set))
    if url is None:
        known = ", ".join(shelf.backends("sandbox")) or "none is installed"
        raise SandboxUnavailable(
            f"say where the sandboxes are: --backend NAME ({known}), or --url of a sandbox service, or ${URL_VARIABLE}"
        )
    settings: dict[str, JSON] = {"url": url, **({} if token is None else {"token": token})}
    return cast("SandboxBackend", shelf.backend(args.backend or shelf.client(), settings, args.set))


def _component(table: ComponentTable | None, name: str) -> tuple[str, JSONObject]:
    """Return the component and the settings that a name stands for."""
    return (name, {}) if table is None else (table.use, reveal(table.model_extra or {}))
