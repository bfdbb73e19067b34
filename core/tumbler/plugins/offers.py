"""Asks a registered plugin for its components and checks what it returns; loads none of them."""

from collections.abc import Callable, Iterable, Iterator
from typing import get_args

import pluggy

from tumbler.errors import PluginConflictError, PluginLoadError
from tumbler.plugins.names import is_well_formed
from tumbler.specs import KINDS, BackendRole, BackendSpec, ComponentKind, ComponentSpec

__all__ = ["REGISTRATION_HOOKS", "offers_of"]

REGISTRATION_HOOKS: dict[str, ComponentKind] = {
    "tumbler_agents": "agent",
    "tumbler_algorithms": "algorithm",
    "tumbler_backends": "backend",
    "tumbler_context_strategies": "context-strategy",
    "tumbler_environments": "environment",
    "tumbler_models": "model",
}

_ROLES = get_args(BackendRole)


def offers_of(manager: pluggy.PluginManager, plugin: str) -> list[tuple[ComponentKind, ComponentSpec]]:
    """Return the plugin's components, sorted by kind and name.

    Raises `PluginLoadError` that names the hook if the plugin's function fails or returns anything but
    well-formed specs, and `PluginConflictError` if it offers one name twice within a kind.
    """
    offers: dict[tuple[ComponentKind, str], ComponentSpec] = {}
    for hook, kind in REGISTRATION_HOOKS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if implementation.plugin_name != plugin:
                continue
            for spec in _specs(hook, implementation.function, KINDS[kind]):
                if (kind, spec.name) in offers:
                    raise PluginConflictError(f"hook {hook} offers the {kind} {spec.name!r} twice; names are unique")
                offers[kind, spec.name] = spec
    return [(kind, spec) for (kind, _), spec in sorted(offers.items(), key=lambda item: item[0])]


def _specs(hook: str, function: Callable[[], Iterable[object]], expected: type[ComponentSpec]) -> list[ComponentSpec]:
    specs: list[ComponentSpec] = []
    try:
        returned = list(function())
    except Exception as error:  # the plugin's own code runs here
        raise PluginLoadError(f"hook {hook} failed: {type(error).__name__}: {error}") from error
    for spec in returned:
        if not isinstance(spec, expected):
            raise PluginLoadError(f"hook {hook} must return a list of {expected.__name__}, but it holds {spec!r}")
        problems = list(_spec_problems(spec))
        if problems:
            raise PluginLoadError(f"hook {hook}, {expected.__name__} {spec.name!r}: {'; '.join(problems)}")
        specs.append(spec)
    return specs


def _spec_problems(spec: ComponentSpec) -> Iterator[str]:
    if not isinstance(spec.name, str) or not is_well_formed(spec.name):
        yield "the name must be lower-case words joined by hyphens"
    if not isinstance(spec.summary, str) or not spec.summary.strip():
        yield "the summary must be a sentence"
    if not (spec.extra is None or isinstance(spec.extra, str)):
        yield f"extra must be the name of an extra or None, not {spec.extra!r}"
    if not isinstance(spec.default, bool):
        yield f"default must be true or false, not {spec.default!r}"
    for field in ("config", "load"):
        if not callable(getattr(spec, field)):
            yield f"{field} must be a function that returns the class"
    yield from _role_problems("needs", spec.needs)
    if isinstance(spec, BackendSpec):
        yield from _backend_problems(spec)


def _backend_problems(spec: BackendSpec) -> Iterator[str]:
    yield from _role_problems("roles", spec.roles)
    if not spec.roles:
        yield f"roles must name at least one of {', '.join(_ROLES)}"
    if spec.default_roles is not None:
        yield from _role_problems("default_roles", spec.default_roles)
        if isinstance(spec.default_roles, tuple) and not {*spec.default_roles} <= {*spec.roles}:
            yield f"default_roles must be among the roles {spec.roles!r}, not {spec.default_roles!r}"


def _role_problems(field: str, roles: object) -> Iterator[str]:
    if not isinstance(roles, tuple):
        yield f"{field} must be a tuple, not {roles!r}"
        return
    for role in roles:
        if role not in _ROLES:
            yield f"{field} names {role!r}; roles are {', '.join(_ROLES)}"
