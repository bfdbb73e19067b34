"""Finds editable installations whose plugins are no longer those of their pyproject.toml."""

import json
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tumbler.markers import ENTRY_POINT_GROUP

__all__ = ["drifted_entry_points"]


def drifted_entry_points(installed: Iterable[Distribution] | None = None) -> list[str]:
    """Return one problem for each plugin that an editable distribution declares otherwise than was installed.

    Entry points are copied when a distribution is installed: an edit of pyproject.toml shows only
    after it is installed again. `installed` is what to look through; None is everything installed.
    """
    return [problem for each in (distributions() if installed is None else installed) for problem in _problems(each)]


def _problems(distribution: Distribution) -> Iterator[str]:
    folder = _editable_folder(distribution)
    declared = None if folder is None else _declared(folder / "pyproject.toml")
    if declared is None:
        return
    current = {point.name: point.value for point in distribution.entry_points if point.group == ENTRY_POINT_GROUP}
    mend = f"reinstall it with: pip install -e '{folder}'"
    for name in sorted({*declared, *current}):
        if name not in current:
            yield f"plugin {name!r} is in {folder}/pyproject.toml but not in the installation; {mend}"
        elif name not in declared:
            yield f"plugin {name!r} is installed but no longer in {folder}/pyproject.toml; {mend}"
        elif declared[name] != current[name]:
            versus = f"is {declared[name]} in {folder}/pyproject.toml but installed as {current[name]}"
            yield f"plugin {name!r} {versus}; {mend}"


def _editable_folder(distribution: Distribution) -> Path | None:
    origin = distribution.read_text("direct_url.json")
    if origin is None:
        return None
    try:
        record = json.loads(origin)
        editable, url = record.get("dir_info", {}).get("editable", False), urlsplit(record["url"])
    except (ValueError, KeyError, AttributeError):
        return None
    return Path(unquote(url.path)) if editable and url.scheme == "file" else None


def _declared(pyproject: Path) -> dict[str, str] | None:
    """Return the plugins that the file declares; None if it does not say, or leaves it to a build backend."""
    try:
        project = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("project")
    except (OSError, ValueError):
        return None
    if not isinstance(project, dict) or "entry-points" in project.get("dynamic", ()):
        return None
    declared = project.get("entry-points", {}).get(ENTRY_POINT_GROUP, {})
    return {str(name): str(value) for name, value in declared.items()}
