"""Finds plugins among the entry points of installed distributions; imports none of them."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.metadata import Distribution, EntryPoint, entry_points

from tumbler import __version__
from tumbler.errors import PluginConflictError, PluginLoadError
from tumbler.markers import ENTRY_POINT_GROUP
from tumbler.plugins.lists import PluginLists
from tumbler.plugins.names import normalise
from tumbler.plugins.records import PluginInfo

__all__ = ["installed_entry_points", "other_majors", "plugins_found", "refuse_conflicts"]

_ANY_MAJOR = re.compile(r"tumbler\.v\d+")


def installed_entry_points() -> list[EntryPoint]:
    """Return the entry points of every major version of the plugin API, of all installed distributions."""
    installed = entry_points()
    groups = sorted(group for group in installed.groups if _ANY_MAJOR.fullmatch(group))
    return [point for group in groups for point in installed.select(group=group)]


def plugins_found(points: Iterable[EntryPoint], lists: PluginLists) -> list[PluginInfo]:
    """Return the plugins of this API version, sorted by name, with the status that the lists give them."""
    own = [point for point in points if point.group == ENTRY_POINT_GROUP]
    judged = [replace(info, status=lists.status(info.name, info.distribution)) for info in _described(own)]
    return sorted(judged, key=_order)


def other_majors(points: Iterable[EntryPoint], found: Iterable[PluginInfo]) -> list[PluginInfo]:
    """Return the plugins that are written for other versions of the API only, with an error that says so."""
    served = {(info.name, normalise(info.distribution)) for info in found}
    others = [point for point in points if point.group != ENTRY_POINT_GROUP and _ANY_MAJOR.fullmatch(point.group)]
    return [
        replace(info, status="other-major", error=_other_major(info))
        for info in sorted(_described(others), key=_order)
        if (info.name, normalise(info.distribution)) not in served
    ]


def refuse_conflicts(found: Iterable[PluginInfo]) -> None:
    """Raise `PluginConflictError` if two of the plugins that may load have one name."""
    claims: dict[str, list[PluginInfo]] = {}
    for info in found:
        if info.status == "ok":
            claims.setdefault(info.name, []).append(info)
    problems = [_conflict(name, claimants) for name, claimants in claims.items() if len(claimants) > 1]
    if problems:
        raise PluginConflictError("\n".join(problems))


def _described(points: Iterable[EntryPoint]) -> Iterator[PluginInfo]:
    known: dict[int, tuple[str, str]] = {}
    for point in points:
        distribution = point.dist
        # Reading the metadata of a distribution anew for each of its plugins costs more than all the rest.
        if id(distribution) not in known:
            known[id(distribution)] = _name_and_version(distribution)
        name, version = known[id(distribution)]
        yield PluginInfo(
            name=point.name,
            distribution=name,
            version=version,
            value=point.value,
            group=point.group,
            status="ok",
        )


def _name_and_version(distribution: Distribution | None) -> tuple[str, str]:
    if distribution is None:
        return "no-distribution", "0"
    metadata = distribution.metadata
    return str(metadata["Name"]), str(metadata["Version"])


def _order(info: PluginInfo) -> tuple[str, str, str]:
    return info.name, normalise(info.distribution), info.value


def _conflict(name: str, claimants: list[PluginInfo]) -> str:
    owners = " and ".join(f"{info.distribution} {info.version} ({info.value})" for info in claimants)
    return (
        f"the plugin name {name!r} is claimed by {owners}; a name belongs to one distribution. Uninstall one of "
        f"them, or leave one out with `allow` (distributions) or both with `disable = [{name!r}]` under [plugins]"
    )


def _other_major(info: PluginInfo) -> PluginLoadError:
    newer = int(info.group.rpartition("v")[2]) > int(ENTRY_POINT_GROUP.rpartition("v")[2])
    mend = "pip install --upgrade tumbler" if newer else f"pip install --upgrade {info.distribution}"
    return PluginLoadError(
        f"{info} is written for the plugin API {info.group}, but Tumbler {__version__} reads {ENTRY_POINT_GROUP}; "
        f"a {'newer Tumbler' if newer else 'newer version of the plugin'} may help: {mend}"
    )
