"""The plugin host: what is installed, what of it works, and the components it offers."""

from tumbler.plugins.events import Observers
from tumbler.plugins.host import PluginHost
from tumbler.plugins.records import Component, PluginInfo, PluginStatus
from tumbler.plugins.requirements import check_requirements, compare_versions

__all__ = [
    "Component",
    "Observers",
    "PluginHost",
    "PluginInfo",
    "PluginStatus",
    "check_requirements",
    "compare_versions",
]
