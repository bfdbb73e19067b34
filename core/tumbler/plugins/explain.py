"""Explains to a person why a plugin or component is or is not there."""

from collections.abc import Iterator, Sequence

from tumbler.plugins.host import PluginHost
from tumbler.plugins.loading import install_command
from tumbler.plugins.lookup import reason
from tumbler.plugins.names import did_you_mean, normalise
from tumbler.plugins.records import Component, PluginInfo
from tumbler.specs import BackendSpec

__all__ = ["explain"]


def explain(host: PluginHost, name: str, drift: Sequence[str]) -> tuple[bool, list[str]]:
    """Return whether the name is that of a loaded plugin or of a component on offer, and why or why not.

    Args:
        host: what to look in.
        name: of a plugin, a component (`ipa`, `minigrid/empty`) or a distribution.
        drift: what `drifted_entry_points` found; lines that name the plugin are part of the answer.
    """
    plugins = _plugins_named(host, name)
    components = [each for each in host.components() if name in (each.id, f"{each.plugin}/{each.spec.name}")]
    lines = [line for info in plugins for line in _plugin_lines(host, info)]
    lines += [line for each in components for line in _component_lines(host, each)]
    there = bool(components) or any(info.status == "ok" for info in plugins)
    for component_id, entry in host.switched_off.items():
        if name in (component_id, entry):
            lines.append(f"{component_id}: disabled; take {entry!r} out of `disable` under [plugins] to use it")
    if not lines:
        lines += _absent_lines(host, name)
    lines += [line for line in drift if repr(name.partition("/")[0]) in line]
    return there, lines


def _plugins_named(host: PluginHost, name: str) -> list[PluginInfo]:
    exact = [info for info in host.plugins if info.name == name]
    owner = [
        info for info in host.plugins if "/" in name and info.name == name.partition("/")[0] and info.status != "ok"
    ]
    return exact or owner or [info for info in host.plugins if normalise(info.distribution) == normalise(name)]


def _plugin_lines(host: PluginHost, info: PluginInfo) -> Iterator[str]:
    yield f"plugin {info.name}"
    yield f"  distribution  {info.distribution} {info.version}"
    yield f"  entry point   {info.name} = {info.value} in the group {info.group}"
    yield f"  status        {info.status}"
    if info.status != "ok":
        yield f"  reason        {reason(info)}"
        return
    yield f"  hooks         {', '.join(info.hooks)}"
    offered = [f"{each.kind} {each.id}" for each in host.components() if each.plugin == info.name]
    yield f"  offers        {', '.join(offered) or 'no component'}"
    yield f"  loaded in     {info.seconds * 1000:.0f} ms"


def _component_lines(host: PluginHost, component: Component) -> Iterator[str]:
    info, spec = host.plugin(component.plugin), component.spec
    yield f"{component.kind} {component.id}: {spec.summary}"
    yield f"  plugin        {info.name} ({info.distribution} {info.version})"
    if isinstance(spec, BackendSpec):
        yield f"  roles         {', '.join(spec.roles)}"
    if spec.needs:
        yield f"  needs         a run that names: {', '.join(spec.needs)}"
    if spec.extra:
        yield f"  extra         {spec.extra}: {install_command(component, info)}"


def _absent_lines(host: PluginHost, name: str) -> Iterator[str]:
    known = {info.name for info in host.plugins} | {each.id for each in host.components()}
    yield f"no installed distribution declares a plugin {name!r}, and no loaded plugin offers such a component."
    yield did_you_mean(name, known)
    yield "A plugin is found through the entry points of an installed distribution: install the one that holds it,"
    yield "or reinstall it if the plugin was added to its pyproject.toml after it was installed."
