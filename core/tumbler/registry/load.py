"""Reads a registry file and checks its form; knows no component and asks no plugin."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path as FilePath
from typing import Any

from tumbler.errors import RegistryError
from tumbler.registry.model import RegistryFile
from tumbler.registry.overrides import apply_overrides
from tumbler.registry.paths import Path, value_at
from tumbler.registry.problem import Problem, registry_error
from tumbler.registry.source import Report, Source, read_source
from tumbler.registry.validation import Mistake, validate

__all__ = ["Registry", "load_registry", "read_registry"]


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A registry file as far as its form is right."""

    source: Source
    tables: RegistryFile
    """What is left when everything that has a problem is taken away."""
    document: Mapping[str, Any]
    """The file as it is written, overrides applied."""
    problems: tuple[Problem, ...] = ()
    """Everything wrong with the form of the file."""
    readable: bool = True
    """Whether the file could be parsed at all."""

    def declares(self, *keys: str) -> bool:
        """Return whether the file has the key, rightly or wrongly filled."""
        return value_at(self.document, keys) is not None


def load_registry(path: "str | PathLike[str]", overrides: Iterable[str] = ()) -> Registry:
    """Return the registry of a TOML file, `--set` overrides applied.

    Raises `RegistryError` with every problem of form: syntax, unknown keys, wrong types. Components
    and their settings are checked by `check_registry` and `resolve_run`.
    """
    registry = read_registry(path, overrides)
    if registry.problems:
        raise registry_error(registry.problems)
    return registry


def read_registry(path: "str | PathLike[str]", overrides: Iterable[str] = ()) -> Registry:
    """Return what can be read of the file, problems and all, so that the rest can be checked too."""
    try:
        document, source = read_source(FilePath(path))
        overridden = apply_overrides(document, overrides)
    except RegistryError as error:
        source = Source(file=str(path), lines={})
        return Registry(source=source, tables=RegistryFile(), document={}, problems=error.problems, readable=False)
    source = Source(file=source.file, lines=source.lines, overridden=overridden)
    report = Report(source)
    if "schema" not in document:
        report.add(("schema",), "missing", "begin the file with: schema = 1")
    tables = _well_formed_part(document, report)
    return Registry(source=source, tables=tables, document=document, problems=report.problems)


def _well_formed_part(document: dict[str, Any], report: Report) -> RegistryFile:
    """Return the tables without what is refused, and report that."""
    left = copy.deepcopy(document)
    while True:
        tables, mistakes = validate(RegistryFile, left)
        if tables is not None:
            return tables
        for mistake in mistakes:
            report.add(mistake.path, *_worded(mistake))
        for path in {_removable(mistake) for mistake in mistakes}:
            _remove(left, path)


def _worded(mistake: Mistake) -> tuple[str, str]:
    if mistake.path == ("schema",):
        return mistake.message, "write schema = 1, the only version that this Tumbler reads"
    return mistake.message, mistake.remedy


def _removable(mistake: Mistake) -> Path:
    """Return what to take away: a whole list for one of its items, a whole table for a key that it lacks."""
    path = mistake.path[:-1] if mistake.missing else mistake.path
    return next((path[:depth] for depth, key in enumerate(path) if isinstance(key, int)), path)


def _remove(document: dict[str, Any], path: Path) -> None:
    table = value_at(document, path[:-1])
    if isinstance(table, dict):
        table.pop(path[-1], None)
