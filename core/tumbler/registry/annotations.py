"""Walks the annotations of pydantic models beside the values they describe; knows no table and no component."""

from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from tumbler.registry.paths import Path

__all__ = ["keys_at", "secret_paths"]


def keys_at(annotation: object, path: Path) -> set[str]:
    """Return the keys that the models found at the path accept; none if a table of any keys is there."""
    reached = [annotation]
    for item in path:
        reached = [child for each in reached for child in _children(each, item)]
    return {key for each in reached for kind in _alternatives(each) for key in _fields(kind)}


def secret_paths(annotation: object, value: object, path: Path = ()) -> Iterator[Path]:
    """Yield the paths of the values that the annotation marks as secret (`SecretStr` and its kin).

    `value` is plain JSON as written in a file; None is no secret.
    """
    if value is not None and any(_is_secret(kind) for kind in _alternatives(annotation)):
        yield path
        return
    for key, child in _items(value):
        for found in _children(annotation, key):
            yield from secret_paths(found, child, (*path, key))


def _items(value: object) -> Iterator[tuple[str | int, object]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield from enumerate(value)


def _is_secret(annotation: object) -> bool:
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, SecretStr | SecretBytes | Secret)


def _alternatives(annotation: object) -> Iterator[object]:
    """Yield what may stand where the annotation does: the members of unions, without metadata."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin is Union or origin is UnionType:
        for member in get_args(annotation):
            yield from _alternatives(member)
    else:
        yield annotation


def _fields(annotation: object) -> dict[str, object]:
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return {}
    return {field.alias or name: field.annotation for name, field in annotation.model_fields.items()}


def _children(annotation: object, key: str | int) -> Iterator[object]:
    for kind in _alternatives(annotation):
        arguments = get_args(kind)
        if isinstance(key, str) and key in _fields(kind):
            yield _fields(kind)[key]
        elif isinstance(key, str) and len(arguments) == 2 and not _fields(kind):
            yield arguments[1]
        elif isinstance(key, int) and arguments:
            yield arguments[min(key, len(arguments) - 1)] if arguments[-1] is not Ellipsis else arguments[0]
