"""The plugin host: finds plugins, loads each on its own, and hands out their components."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

from tumbler.errors import ComponentNotFoundError, PluginConflictError, PluginError, PluginLoadError
from tumbler.plugins.discovery import installed_entry_points, other_majors, plugins_found, refuse_conflicts
from tumbler.plugins.events import Observers
from tumbler.plugins.hooks import new_plugin_manager, register, registered_hooks
from tumbler.plugins.lists import PluginLists
from tumbler.plugins.loading import build_component, load_class, load_settings_model
from tumbler.plugins.lookup import absent_component, reason
from tumbler.plugins.modules import import_plugin
from tumbler.plugins.names import did_you_mean
from tumbler.plugins.offers import offers_of
from tumbler.plugins.records import Component, PluginInfo
from tumbler.specs import ComponentKind

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.values import JSON

__all__ = ["STRICT_VARIABLE", "PluginHost"]

STRICT_VARIABLE = "TUMBLER_STRICT_PLUGINS"
"""The environment variable that, set to 1, makes a plugin that fails to load stop the host."""


class PluginHost:
    """All plugins of this process. Make one with `PluginHost.load`."""

    def __init__(self, lists: PluginLists) -> None:
        """Make a host without plugins."""
        self._lists = lists
        self._manager = new_plugin_manager()
        self._plugins: list[PluginInfo] = []
        self._components: dict[tuple[ComponentKind, str], Component] = {}
        self._switched_off: dict[str, str] = {}
        self._observers = Observers(self._manager)

    @classmethod
    def load(
        cls,
        allow: Iterable[str] | None = None,
        disable: Iterable[str] = (),
        entry_points: Iterable[EntryPoint] | None = None,
    ) -> "PluginHost":
        """Find and load the plugins; those that fail are kept with their error and offer nothing.

        Args:
            allow: the distributions whose plugins may load; None allows every installed one.
            disable: plugins (`minigrid`) and single components (`minigrid/empty`) to leave out.
            entry_points: where to look; None looks at all installed distributions, once.

        Raises:
            PluginConflictError: two plugins that may load claim one name, or two first-party ones
                offer one component.
            PluginLoadError: a plugin failed and the environment variable TUMBLER_STRICT_PLUGINS is 1.
        """
        host = cls(PluginLists.of(allow, disable))
        points = installed_entry_points() if entry_points is None else list(entry_points)
        found = plugins_found(points, host._lists)
        refuse_conflicts(found)
        # First-party plugins go first, so that no other can register one of their modules as its own.
        for info in sorted(found, key=lambda info: (not info.first_party, info.name)):
            host._plugins.append(host._loaded(info) if info.status == "ok" else info)
        host._plugins += other_majors(points, found)
        host._plugins.sort(key=lambda info: info.name)
        return host

    @property
    def plugins(self) -> tuple[PluginInfo, ...]:
        """Return every plugin that was found, loaded or not, sorted by name."""
        return tuple(self._plugins)

    @property
    def observers(self) -> Observers:
        """Return the observers, to tell events to."""
        return self._observers

    @property
    def switched_off(self) -> Mapping[str, str]:
        """Return the ids of components that were disabled one by one, with the entry that did it."""
        return self._switched_off

    def plugin(self, name: str) -> PluginInfo:
        """Return the plugin of that name, one that is loaded if there are several."""
        named = [info for info in self._plugins if info.name == name]
        if not named:
            raise ComponentNotFoundError(
                f"there is no plugin {name!r}. {did_you_mean(name, [info.name for info in self._plugins])}"
            )
        return min(named, key=lambda info: info.status != "ok")

    def components(self, kind: ComponentKind | None = None) -> list[Component]:
        """Return the components on offer, of one kind or of all, sorted by kind and id."""
        ordered = sorted(self._components.items())
        return [component for _, component in ordered if kind is None or component.kind == kind]

    def component(self, kind: ComponentKind, component_id: str) -> Component:
        """Return the component of that id: a bare name is first-party, others are `plugin/name`.

        Raises `PluginLoadError` if its plugin failed to load and `ComponentNotFoundError` if no plugin
        offers it; the message says why and how to mend it.
        """
        found = self._components.get((kind, component_id))
        if found is None:
            raise absent_component(
                kind, component_id, plugins=self._plugins, components=self.components(), switched_off=self._switched_off
            )
        return found

    def settings_model(self, kind: ComponentKind, component_id: str) -> "type[Settings]":
        """Return the settings class of a component."""
        component = self.component(kind, component_id)
        return load_settings_model(component, self.plugin(component.plugin))

    def loaded(self, kind: ComponentKind, component_id: str) -> type:
        """Return a component's class, not built; raises as `build` does."""
        component = self.component(kind, component_id)
        return load_class(component, self.plugin(component.plugin))

    def build(self, kind: ComponentKind, component_id: str, settings: "Settings | Mapping[str, JSON]") -> object:
        """Return a component, built from its settings and checked against the contract of its kind.

        Raises:
            MissingExtraError: a package is not installed; the message ends in the command that installs it.
            ContractError: the object lacks what its Protocol asks for, or the settings are another class's.
            RegistryError: the mapping does not fit the component's settings; lists every problem.
        """
        component = self.component(kind, component_id)
        return build_component(component, self.plugin(component.plugin), settings)

    def versions(self) -> dict[str, tuple[str, str]]:
        """Return plugin → (distribution, version) of the loaded plugins, to compare with another process."""
        return {info.name: (info.distribution, info.version) for info in self._plugins if info.status == "ok"}

    def check(self) -> list[str]:
        """Return all that is wrong with the plugins: failures, other API versions, lists that name nothing."""
        broken = [reason(info) for info in self._plugins if info.status in ("failed", "other-major")]
        offered = {f"{each.plugin}/{each.spec.name}" for each in self._components.values()}
        return [*broken, *self._lists.idle_entries(self._plugins, {*offered, *self._switched_off.values()})]

    def _loaded(self, info: PluginInfo) -> PluginInfo:
        started = time.perf_counter()
        try:
            module = import_plugin(info)
            register(self._manager, info.name, module)
            offers = self._offers(info)
        except (PluginLoadError, PluginConflictError) as error:
            if os.environ.get(STRICT_VARIABLE, "0") not in ("", "0"):
                raise PluginLoadError(f"{info} failed to load: {error}") from error
            return replace(info, status="failed", error=error, seconds=time.perf_counter() - started)
        for component in offers:
            self._add(component)
        hooks = registered_hooks(self._manager, module)
        return replace(info, hooks=hooks, seconds=time.perf_counter() - started)

    def _offers(self, info: PluginInfo) -> list[Component]:
        try:
            offers = offers_of(self._manager, info.name)
        except PluginError:
            self._manager.unregister(name=info.name)
            raise
        prefix = "" if info.first_party else f"{info.name}/"
        return [Component(kind=kind, id=prefix + spec.name, plugin=info.name, spec=spec) for kind, spec in offers]

    def _add(self, component: Component) -> None:
        entry = f"{component.plugin}/{component.spec.name}"
        if entry in self._lists.disable:
            self._switched_off[component.id] = entry
            return
        other = self._components.setdefault((component.kind, component.id), component)
        if other is not component:
            raise PluginConflictError(
                f"the {component.kind} {component.id!r} is offered by the plugins {other.plugin!r} and "
                f"{component.plugin!r}; leave one out with `disable` under [plugins]"
            )
