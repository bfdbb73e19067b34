"""Finds what a run's references mean: named tables, ids, inline tables, and what `extends` brings along."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tumbler.registry.load import Registry
from tumbler.registry.model import SECTIONS, RunTable
from tumbler.registry.paths import Path, value_at
from tumbler.specs import ComponentKind

__all__ = ["EffectiveRun", "Selection", "deep_merge", "inline", "listed", "named"]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """One component that a run or a table asks for, not yet checked."""

    kind: ComponentKind
    label: str
    id: str | None
    """None if the table does not say which component to use."""
    settings: Mapping[str, Any]
    """With an agent's `context`."""
    layers: tuple[tuple[Path, Mapping[str, Any]], ...]
    """The tables that the settings come from and where they stand, the one that wins first."""

    @property
    def place(self) -> Path:
        """Return where the component is asked for."""
        return self.layers[0][0]

    def locate(self, path: Path) -> Path:
        """Return where in the file a setting stands, or where it should."""
        for place, table in self.layers:
            if path and path[0] in table:
                return (*place, *path)
        return (*self.place, *path)


def inline(kind: ComponentKind, table: Mapping[str, Any], path: Path) -> Selection:
    """Return the selection that a table with `use` at the path makes."""
    use = table.get("use")
    component_id = use if isinstance(use, str) and use else None
    settings = {key: value for key, value in table.items() if key != "use"}
    return Selection(kind=kind, label=component_id or "", id=component_id, settings=settings, layers=((path, table),))


def named(registry: Registry, kind: ComponentKind, name: str, path: Path) -> Selection | None:
    """Return the table of that name, or the component of that id with its default settings.

    None if the file has such a table but its form is wrong, which has been reported.
    """
    section = next((section for section, each in SECTIONS.items() if each == kind), None)
    tables = {} if section is None else getattr(registry.tables, section)
    if section is not None and name in tables:
        table = tables[name].model_dump(exclude_unset=True)
        found = inline(kind, table, (section, name))
        return Selection(kind=kind, label=name, id=found.id, settings=found.settings, layers=found.layers)
    if section is not None and registry.declares(section, name):
        return None
    return Selection(kind=kind, label=name, id=name, settings={}, layers=((path, {}),))


def deep_merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return both tables in one; `above` wins, tables merge by key, lists replace."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = deep_merge(old, value)
        else:
            merged[key] = value
    return merged


class EffectiveRun:
    """A run together with the run that it extends."""

    def __init__(self, registry: Registry, name: str) -> None:
        """Read the run of that name, which must be among the registry's well-formed runs."""
        self.name = name
        self._registry = registry
        runs = registry.tables.runs
        own = runs[name].model_dump(exclude_unset=True)
        base = runs[name].extends
        self._layers: list[tuple[str, dict[str, Any]]] = [(name, own)]
        if base is not None and base in runs:
            self._layers.append((base, runs[base].model_dump(exclude_unset=True)))
        merged: dict[str, Any] = {}
        for _, layer in reversed(self._layers):
            merged = deep_merge(merged, layer)
        self.table = RunTable.model_validate(merged)

    def locate(self, *keys: str) -> Path:
        """Return where the key stands: in this run, or in the one that it extends."""
        for name, layer in self._layers:
            if value_at(layer, keys) is not None:
                return ("runs", name, *keys)
        return ("runs", self.name, *keys)

    def declares(self, *keys: str) -> bool:
        """Return whether this run or the one that it extends has the key, rightly or wrongly filled."""
        return any(self._registry.declares("runs", name, *keys) for name, _ in self._layers)

    def select(self, kind: ComponentKind, *keys: str) -> Selection | None:
        """Return what stands at the key; None if nothing does, or nothing that is well formed."""
        found: Selection | None = None
        for name, layer in reversed(self._layers):
            value = value_at(layer, keys)
            if isinstance(value, str):
                found = named(self._registry, kind, value, ("runs", name, *keys))
            elif isinstance(value, Mapping):
                found = _laid_over(found, inline(kind, value, ("runs", name, *keys)))
        return found

    def select_each(self, kind: ComponentKind, *keys: str) -> dict[Path, Selection]:
        """Return what stands in the list at the key, each with its place there."""
        values = value_at(self.table.model_dump(exclude_unset=True), keys)
        return listed(self._registry, kind, values, self.locate(*keys))


def listed(registry: Registry, kind: ComponentKind, values: object, path: Path) -> dict[Path, Selection]:
    """Return the selections of a list of references at the path; none if there is no list."""
    found = {}
    for index, value in enumerate(values if isinstance(values, Sequence) else ()):
        place = (*path, index)
        selection = named(registry, kind, value, place) if isinstance(value, str) else inline(kind, value, place)
        if selection is not None:
            found[place] = selection
    return found


def _laid_over(below: Selection | None, above: Selection) -> Selection:
    """Merge the settings if both mean the same component; another component starts from its own defaults."""
    if below is None or above.id not in (None, below.id):
        return above
    return Selection(
        kind=below.kind,
        label=below.label,
        id=below.id,
        settings=deep_merge(below.settings, above.settings),
        layers=(*above.layers, *below.layers),
    )
