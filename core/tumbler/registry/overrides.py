"""Applies `--set a.b.c=value` to a parsed registry; knows the sections but no component."""

import json
import tomllib
from collections.abc import Iterable, Sequence
from typing import Any

from tumbler.contracts.values import JSON
from tumbler.registry.model import SECTIONS
from tumbler.registry.paths import Path, dotted
from tumbler.registry.problem import Problem, registry_error, suggest

__all__ = ["apply_overrides"]


def apply_overrides(document: dict[str, Any], overrides: Iterable[str]) -> tuple[Path, ...]:
    """Set the keys in the document and return their paths; raise `RegistryError` with every bad override.

    A value is a TOML literal (`0.9`, `true`, `["a"]`, `{ use = "x" }`) and anything else is text.
    Tables on the way are made, but no section gets a new entry from a key below it.
    """
    paths: list[Path] = []
    problems: list[Problem] = []
    for override in overrides:
        try:
            keys, value = _parse(override)
            _put(document, keys, value)
        except _BadOverride as error:
            problems.append(Problem(file="--set", path=error.path, message=error.message, remedy=error.remedy))
        else:
            paths.append(keys)
    if problems:
        raise registry_error(problems)
    return tuple(paths)


class _BadOverride(Exception):
    def __init__(self, path: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.path, self.message, self.remedy = path, message, remedy


def _parse(override: str) -> tuple[tuple[str, ...], JSON]:
    key, separator, text = override.partition("=")
    try:
        table: Any = tomllib.loads(f"{key} = 0") if separator and "\n" not in key else {}
    except tomllib.TOMLDecodeError:
        table = {}
    keys: tuple[str, ...] = ()
    while isinstance(table, dict) and len(table) == 1:
        name, table = next(iter(table.items()))
        keys = (*keys, name)
    if not keys:
        raise _BadOverride("", f"{override!r} is no override", "write it like runs.smoke.seed=1")
    return keys, _literal(text.strip())


def _literal(text: str) -> JSON:
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    if len(table) != 1:
        return text  # It brings further keys along, which no value does.
    value: JSON = json.loads(json.dumps(table["value"], default=str))
    return value


def _put(document: dict[str, Any], keys: Sequence[str], value: JSON) -> None:
    section = document.get(keys[0], {})
    if keys[0] in {*SECTIONS, "runs"} and len(keys) > 2 and isinstance(section, dict) and keys[1] not in section:
        raise _BadOverride(dotted((*keys,)), f"there is no table {dotted((*keys[:2],))}", suggest(keys[1], section))
    table: Any = document
    for depth, key in enumerate(keys[:-1], start=1):
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise _BadOverride(
                dotted((*keys,)),
                f"{dotted((*keys[:depth],))} is {json.dumps(table)}, not a table",
                f"set {dotted((*keys[:depth],))} as a whole, or the table that it names",
            )
    table[keys[-1]] = value
