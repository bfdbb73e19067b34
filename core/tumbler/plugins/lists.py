"""The allow and disable lists: which plugins may load, and which entries of the lists mean nothing."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tumbler.errors import RegistryError
from tumbler.plugins.names import did_you_mean, normalise
from tumbler.plugins.records import PluginInfo, PluginStatus

__all__ = ["PluginLists", "PluginTable", "read_plugin_table"]


@dataclass(frozen=True, kw_only=True)
class PluginLists:
    """Which plugins may load; applied before anything is imported."""

    allow: frozenset[str] | None
    """Normalised names of distributions; None allows all."""
    disable: frozenset[str]
    """Names of plugins, and `plugin/component`."""

    @classmethod
    def of(cls, allow: Iterable[str] | None, disable: Iterable[str]) -> "PluginLists":
        """Return the lists, distribution names normalised."""
        allowed = None if allow is None else frozenset(normalise(name) for name in allow)
        return cls(allow=allowed, disable=frozenset(disable))

    def status(self, name: str, distribution: str) -> PluginStatus:
        """Return `ok` for a plugin that may load, else the reason why it may not."""
        if name in self.disable:
            return "disabled"
        if self.allow is not None and normalise(distribution) not in self.allow:
            return "not-allowed"
        return "ok"

    def idle_entries(self, plugins: Iterable[PluginInfo], components: set[str]) -> list[str]:
        """Return one problem for each entry that names nothing.

        `components` holds what loaded plugins offer, disabled or not, as `plugin/component`. What a
        plugin that is not loaded would offer is not known, and entries that name it are let be.
        """
        infos = list(plugins)
        distributions = {normalise(info.distribution) for info in infos}
        problems = [
            f"`allow` under [plugins] names {each!r}, which has no plugin here. {did_you_mean(each, distributions)}"
            for each in sorted((self.allow or frozenset()) - distributions)
        ]
        known = {info.name for info in infos} | components
        unloaded = {info.name for info in infos if info.status != "ok"}
        return problems + [
            f"`disable` under [plugins] names {each!r}, which is not installed. {did_you_mean(each, known)}"
            for each in sorted(self.disable - known)
            if each.partition("/")[0] not in unloaded
        ]


@dataclass(frozen=True, kw_only=True)
class PluginTable:
    """The table [plugins] of a registry file."""

    allow: list[str] | None = None
    disable: list[str] = field(default_factory=list)
    require: list[str] = field(default_factory=list)


def read_plugin_table(registry: Path) -> PluginTable:
    """Return the table [plugins] of a registry file; the rest of the file is not looked at.

    Commands that list plugins need no more of the file, and must work when the rest of it is wrong.
    """
    import tomllib

    try:
        table = tomllib.loads(registry.read_text(encoding="utf-8")).get("plugins", {})
    except OSError as error:
        raise RegistryError(f"{registry} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise RegistryError(f"{registry} is not TOML in UTF-8: {error}") from error
    if not isinstance(table, dict):
        raise RegistryError(f"{registry}: plugins must be a table")
    for key in ("allow", "disable", "require"):
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise RegistryError(f"{registry}: plugins.{key} must be a list of strings, not {value!r}")
    return PluginTable(allow=table.get("allow"), disable=table.get("disable", []), require=table.get("require", []))
