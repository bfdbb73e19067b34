"""References to secrets, `{ env = "NAME" }`: kept in the resolved form and read only to build a component."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeGuard

from tumbler.contracts.values import JSON, JSONObject
from tumbler.errors import RegistryError
from tumbler.registry.paths import Path, dotted

__all__ = ["STAND_IN", "is_reference", "reference_paths", "replace_references", "reveal"]

STAND_IN = "stand-in-for-a-secret"
"""How the text begins that a settings model sees in place of a reference while a registry is checked."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def is_reference(value: object) -> TypeGuard[Mapping[str, str]]:
    """Return whether the value is a table with the one key `env` and the name of a variable."""
    if not isinstance(value, Mapping) or set(value) != {"env"}:
        return False
    name = value["env"]
    return isinstance(name, str) and _VARIABLE.fullmatch(name) is not None


def reference_paths(value: JSON, path: Path = ()) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Yield every reference in the value with its path."""
    if is_reference(value):
        yield path, value
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield from reference_paths(child, (*path, key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, child in enumerate(value):
            yield from reference_paths(child, (*path, index))


def replace_references(settings: JSONObject, text: str) -> JSONObject:
    """Return the settings with `text` and the variable's name in place of every reference.

    Two variables are two texts, because settings may have to differ.
    """
    return {key: _replaced(value, (key,), lambda _path, name: f"{text}-{name}") for key, value in settings.items()}


def reveal(settings: JSONObject) -> JSONObject:
    """Return the settings with every reference replaced by the variable's value.

    Raises `RegistryError` that names the variable and the setting if a variable is not set.
    """
    return {key: _replaced(value, (key,), _variable) for key, value in settings.items()}


def _variable(path: Path, name: str) -> str:
    if name not in os.environ:
        raise RegistryError(
            f"the setting {dotted(path)} refers to the environment variable {name}, which is not set; "
            f"set it, for instance with: export {name}=…"
        )
    return os.environ[name]


def _replaced(value: JSON, path: Path, text_for: Callable[[Path, str], str]) -> JSON:
    if is_reference(value):
        return text_for(path, value["env"])
    if isinstance(value, Mapping):
        return {key: _replaced(child, (*path, key), text_for) for key, child in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_replaced(child, (*path, index), text_for) for index, child in enumerate(value)]
    return value
