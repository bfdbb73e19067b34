"""Imports the module that a plugin's entry point names; knows nothing of hooks."""

from importlib import import_module
from types import ModuleType

from tumbler.errors import PluginLoadError
from tumbler.plugins.names import RESERVED_NAMES, is_well_formed
from tumbler.plugins.records import PluginInfo

__all__ = ["import_plugin"]


def import_plugin(info: PluginInfo) -> ModuleType:
    """Return the plugin's module; raise `PluginLoadError` if its name is ill-formed or the import fails."""
    if not is_well_formed(info.name):
        raise PluginLoadError("its name must be lower-case words joined by hyphens")
    if info.name in RESERVED_NAMES:
        raise PluginLoadError(f"Tumbler keeps the names {', '.join(sorted(RESERVED_NAMES))} for itself")
    if ":" in info.value:
        raise PluginLoadError(f"its entry point must name a module, not an object in one ({info.value!r})")
    try:
        return import_module(info.value)
    except (Exception, SystemExit) as error:  # the plugin's own code runs here
        raise PluginLoadError(f"importing {info.value} failed: {type(error).__name__}: {error}") from error
