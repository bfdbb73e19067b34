"""Validates plain JSON with pydantic models and says what is wrong in the registry's words; knows no table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from tumbler.registry.annotations import keys_at, secret_paths
from tumbler.registry.paths import Path, value_at
from tumbler.registry.problem import suggest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from tumbler.contracts.values import JSONObject

__all__ = ["Mistake", "validate"]

ModelT = TypeVar("ModelT", bound=BaseModel)

_LONGEST_VALUE = 60


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One thing that a model refuses."""

    path: Path
    """From the top of the validated value."""
    message: str
    remedy: str
    missing: bool = False
    """Whether the key at `path` is absent."""


def validate(model: type[ModelT], value: "JSONObject") -> tuple[ModelT | None, list[Mistake]]:
    """Return the validated model, or None and every mistake.

    Types are taken strictly as JSON has them, so that `"8"` is no number and `true` is no 1.
    """
    try:
        model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        mistakes = _mistakes(model, value, error)
        # Strict JSON refuses defaults that JSON cannot write, such as a path; those are nobody's mistake.
        own = [each for each in mistakes if each.missing or value_at(value, each.path) is not None]
        if own:
            return None, own
    try:
        return model.model_validate(value), []
    except ValidationError as error:
        return None, _mistakes(model, value, error)


def _mistakes(model: type[BaseModel], value: "JSONObject", error: ValidationError) -> list[Mistake]:
    secrets = set(secret_paths(model, value))
    return [_mistake(model, value, secrets, each) for each in error.errors(include_url=False)]


def _mistake(model: type[BaseModel], value: "JSONObject", secrets: set[Path], error: "ErrorDetails") -> Mistake:
    path = _path_in(value, error["loc"])
    if error["type"] == "extra_forbidden":
        remedy = suggest(str(path[-1]), keys_at(model, path[:-1]))
        return Mistake(path=path, message="unknown key", remedy=remedy)
    if error["type"] == "missing":
        return Mistake(path=path, message="missing", remedy=f"add the key {path[-1]!r}", missing=True)
    message = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message[:1].lower() + message[1:]
    if isinstance(error["input"], Mapping) and error["type"] in ("value_error", "assertion_error"):
        return Mistake(path=path, message="the keys do not go together", remedy=message)
    if any(path[: len(secret)] == secret for secret in secrets):
        return Mistake(path=path, message="the value is refused", remedy=message)
    return Mistake(path=path, message=f"{_shown(error['input'])} is refused", remedy=message)


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "a table"
    text = json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _path_in(value: object, location: tuple[str | int, ...]) -> Path:
    """Return the location without the names that pydantic adds for the members of unions."""
    path: Path = ()
    for depth, item in enumerate(location):
        last = depth == len(location) - 1
        if isinstance(value, Mapping) and (item in value or last):
            path, value = (*path, item), value.get(item)
        elif isinstance(value, list | tuple) and isinstance(item, int) and item < len(value):
            path, value = (*path, item), value[item]
    return path
