"""The names of a new plugin and of all that is derived from it; knows no template."""

from dataclasses import dataclass
from importlib.util import find_spec

from tumbler.errors import PluginError
from tumbler.markers import ENTRY_POINT_GROUP
from tumbler.plugins.discovery import installed_entry_points
from tumbler.plugins.names import FIRST_PARTY, RESERVED_NAMES, is_well_formed

__all__ = ["PluginNames", "free_names", "plugin_names"]


@dataclass(frozen=True, kw_only=True)
class PluginNames:
    """What a plugin called `two-words` needs names for."""

    plugin: str
    """two-words: the plugin, and each of its first components."""
    distribution: str
    """tumbler-two-words."""
    package: str
    """tumbler_two_words."""
    prefix: str
    """TwoWords: how its classes begin."""


def plugin_names(name: str) -> PluginNames:
    """Return the names for a plugin; raise `PluginError` if the name is ill-formed or kept."""
    if not is_well_formed(name):
        raise PluginError(
            f"{name!r} cannot be a plugin's name: use lower-case words and digits, joined by hyphens, such as 'my-maze'"
        )
    if name in RESERVED_NAMES:
        raise PluginError(f"Tumbler keeps the names {', '.join(sorted(RESERVED_NAMES))} for itself; choose another")
    if name.startswith(f"{FIRST_PARTY}-"):
        bare = name.removeprefix(f"{FIRST_PARTY}-")
        raise PluginError(f"leave the prefix out: tumbler new-plugin {bare} writes the distribution {name!r}")
    return PluginNames(
        plugin=name,
        distribution=f"{FIRST_PARTY}-{name}",
        package=f"{FIRST_PARTY}_{name.replace('-', '_')}",
        prefix="".join(word.capitalize() for word in name.split("-")),
    )


def free_names(name: str) -> PluginNames:
    """Return the names for a plugin; raise `PluginError` also if something that is installed has them."""
    names = plugin_names(name)
    for point in installed_entry_points():
        if point.name == name and point.group == ENTRY_POINT_GROUP:
            owner = "another distribution" if point.dist is None else f"{point.dist.name} {point.dist.version}"
            raise PluginError(f"{owner} has a plugin {name!r} already, and a name belongs to one; choose another")
    if find_spec(names.package) is not None:
        raise PluginError(f"a package {names.package!r} is installed already; choose another name")
    return names
