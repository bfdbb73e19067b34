"""A plugin host for tests that does not depend on what else is installed."""

from collections.abc import Iterable
from importlib.metadata import EntryPoint

from tumbler.errors import ComponentNotFoundError
from tumbler.markers import ENTRY_POINT_GROUP
from tumbler.plugins import PluginHost
from tumbler.plugins.discovery import installed_entry_points
from tumbler.plugins.names import FIRST_PARTY, did_you_mean, normalise

__all__ = ["isolated_host"]


def isolated_host(plugins: Iterable[str]) -> PluginHost:
    """Return a host of the first-party plugins and of those named; raise `ComponentNotFoundError` for others."""
    wanted = set(plugins)
    points = [point for point in installed_entry_points() if point.group == ENTRY_POINT_GROUP]
    unknown = sorted(wanted - {point.name for point in points})
    if unknown:
        hint = did_you_mean(unknown[0], {point.name for point in points})
        raise ComponentNotFoundError(
            f"no installed distribution has the plugin {unknown[0]!r}. {hint} Reinstall yours?"
        )
    return PluginHost.load(entry_points=[point for point in points if point.name in wanted or _first_party(point)])


def _first_party(point: EntryPoint) -> bool:
    return point.dist is not None and normalise(point.dist.name) == FIRST_PARTY
