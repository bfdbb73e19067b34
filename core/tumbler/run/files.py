"""JSON and JSON-lines files that survive a crash: whole files are replaced, lines are appended."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from tumbler.contracts.values import JSON, JSONObject
from tumbler.errors import RunError, RunFolderError

__all__ = ["append_line", "read_json", "read_line", "read_lines", "read_placed_lines", "repair_lines", "write_json"]


def write_json(path: Path, value: JSON) -> None:
    """Write the file so that a reader finds either the old content or the new, never a part.

    Raises `RunError` where it cannot be written; the old content is still there then.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with _writing(path):
        try:
            with beside.open("w", encoding="utf-8") as file:
                json.dump(value, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise


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


def append_line(path: Path, value: JSONObject) -> int:
    """Append one JSON line and return where it begins.

    It is a single write, so that a killed process leaves at most a torn last line. Raises `RunError` where it
    cannot be written, as on a disk that is full; nothing of it is left then.
    """
    line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
    with _writing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            place = os.lseek(descriptor, 0, os.SEEK_END)
            try:
                while line:
                    line = line[os.write(descriptor, line) :]
            except OSError:
                # The next line that still fits would be joined to what is there of this one.
                os.ftruncate(descriptor, place)
                raise
        finally:
            os.close(descriptor)
    return place


def read_lines(path: Path) -> Iterator[JSONObject]:
    """Yield the JSON objects of the file's whole lines; a missing file has none."""
    return (value for _, value in read_placed_lines(path))


def read_placed_lines(path: Path) -> Iterator[tuple[int, JSONObject]]:
    """Yield where each whole line begins, and its JSON object; a missing file has none."""
    if not path.exists():
        return
    place = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield place, json.loads(line)
            except ValueError as error:
                raise RunFolderError(f"{path}, line {number} is not JSON: {error}") from error
            place += len(line)


def read_line(path: Path, place: int) -> JSONObject:
    """Return the JSON object of the line that begins at `place`, in bytes."""
    with path.open("rb") as file:
        file.seek(place)
        return cast("JSONObject", json.loads(file.readline()))


def repair_lines(path: Path) -> None:
    """Cut off a torn last line, so that the next append starts a line of its own."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        os.truncate(path, whole)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Tell of a file that cannot be written by a `RunError`."""
    try:
        yield
    except OSError as error:
        free = ""
        with suppress(OSError):
            free = f" ({shutil.disk_usage(path.parent).free >> 10} KiB are free there)"
        raise RunError(
            f"{path} could not be written: {error.strerror}{free}; what was written before is whole. Make room or mend "
            "the cause, then resume the run"
        ) from error
