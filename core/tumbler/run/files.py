"""JSON and JSON-lines files that survive a crash: whole files are replaced, lines are appended."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from tumbler.contracts.values import JSON, JSONObject
from tumbler.errors import RunFolderError

__all__ = ["append_line", "read_json", "read_lines", "repair_lines", "write_json"]


def write_json(path: Path, value: JSON) -> None:
    """Write the file so that a reader finds either the old content or the new, never a part."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_json(path: Path) -> JSONObject:
    """Return the JSON object in the file; raise `RunFolderError` that says what is wrong with it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(f"{path} does not exist; is {path.parent} the folder of a run?") from error
    except ValueError as error:
        raise RunFolderError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise RunFolderError(f"{path} holds no JSON object")
    return cast("JSONObject", value)


def append_line(path: Path, value: JSONObject) -> None:
    """Append one JSON line in a single write, so that a killed process leaves at most a torn last line."""
    line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        while line:
            line = line[os.write(descriptor, line) :]
    finally:
        os.close(descriptor)


def read_lines(path: Path) -> Iterator[JSONObject]:
    """Yield the JSON objects of the file's whole lines; a missing file has none."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield json.loads(line)
            except ValueError as error:
                raise RunFolderError(f"{path}, line {number} is not JSON: {error}") from error


def repair_lines(path: Path) -> None:
    """Cut off a torn last line, so that the next append starts a line of its own."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        os.truncate(path, whole)
