"""Explains why a component or a plugin cannot be had; knows what was found, loads nothing."""

from collections.abc import Iterable, Mapping

from tumbler.errors import ComponentNotFoundError, PluginError, PluginLoadError
from tumbler.plugins.names import did_you_mean
from tumbler.plugins.records import Component, PluginInfo
from tumbler.specs import ComponentKind

__all__ = ["absent_component", "reason"]


def reason(info: PluginInfo) -> str:
    """Return in one sentence why a plugin is not loaded, and what to do about it."""
    if info.status == "disabled":
        return f"{info} is disabled; take {info.name!r} out of `disable` under [plugins] to use it"
    if info.status == "not-allowed":
        return f"{info} is not allowed; add {info.distribution!r} to `allow` under [plugins] to use it"
    if info.status == "other-major":
        return str(info.error)
    if info.status == "failed":
        return f"{info} failed to load: {info.error}"
    return f"{info} is loaded"


def absent_component(
    kind: ComponentKind,
    component_id: str,
    *,
    plugins: Iterable[PluginInfo],
    components: Iterable[Component],
    switched_off: Mapping[str, str],
) -> PluginError:
    """Return the error to raise for a component that is not on offer.

    `switched_off` holds the ids of components that were disabled one by one, with the entry that did it.
    """
    infos = list(plugins)
    owner = _owner(component_id, infos)
    if owner is not None and owner.status in ("failed", "other-major"):
        return PluginLoadError(f"there is no {kind} {component_id!r}: {reason(owner)}")
    if owner is not None:
        return ComponentNotFoundError(f"there is no {kind} {component_id!r}: {reason(owner)}")
    if component_id in switched_off:
        entry = switched_off[component_id]
        return ComponentNotFoundError(
            f"the {kind} {component_id!r} is disabled; take {entry!r} out of `disable` under [plugins] to use it"
        )
    parts = [f"no installed plugin offers the {kind} {component_id!r}.", *_hints(kind, component_id, list(components))]
    return ComponentNotFoundError(" ".join([*parts, *_suspects(component_id, infos)]))


def _owner(component_id: str, infos: list[PluginInfo]) -> PluginInfo | None:
    """Return the plugin that is not loaded and by its name would offer the component."""
    plugin, slash, _ = component_id.rpartition("/")
    named = [info for info in infos if info.name == (plugin or component_id) and info.first_party != bool(slash)]
    return named[0] if named and all(info.status != "ok" for info in named) else None


def _hints(kind: ComponentKind, component_id: str, components: list[Component]) -> list[str]:
    plugin, _, bare = component_id.rpartition("/")
    others = sorted(each.kind for each in components if each.id == component_id)
    if others:
        return [f"There is {component_id!r} as: {', '.join(others)}."]
    if any((each.kind, each.plugin, each.id) == (kind, plugin, bare) for each in components):
        return [f"First-party components have no prefix: write {bare!r}."]
    return [did_you_mean(component_id, [each.id for each in components if each.kind == kind])]


def _suspects(component_id: str, infos: list[PluginInfo]) -> list[str]:
    plugin, slash, _ = component_id.rpartition("/")
    if slash and all(info.name != plugin for info in infos):
        return [f"There is no plugin {plugin!r}; one that was just declared is found once you reinstall it."]
    absent = [reason(info) for info in infos if info.first_party and info.status != "ok" and not slash]
    return [f"It may belong to a plugin that is not loaded: {'; '.join(absent[:10])}."] if absent else []
