"""Reads TOML text into plain JSON and remembers where each key stands; knows no table of the file."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path as FilePath
from typing import Any

from tumbler.registry.paths import Path, dotted, value_at
from tumbler.registry.problem import Problem, Severity, registry_error

__all__ = ["Report", "Source", "read_source"]

_HEADER = re.compile(r"\s*\[\s*(?P<keys>[^\[\]]+?)\s*\]\s*(#.*)?")
_ASSIGNMENT = re.compile(r"\s*(?P<keys>[\w\-.\"' ]+?)\s*=")
_SYNTAX_PLACE = re.compile(r" \(at (?:line (?P<line>\d+), column \d+|end of document)\)$")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a document comes from."""

    file: str
    """The file as the caller named it."""
    lines: Mapping[Path, int]
    """Line of a key, from 1, for the keys that were found."""
    overridden: tuple[Path, ...] = ()
    """The keys that `--set` gave."""

    def locate(self, path: Path) -> tuple[str, int | None]:
        """Return the file, or `--set`, and the line of the key or of the nearest table above it."""
        if any(path[: len(key)] == key for key in self.overridden):
            return "--set", None
        above = (path[:depth] for depth in range(len(path), 0, -1))
        return self.file, next((self.lines[each] for each in above if each in self.lines), None)


class Report:
    """Collects problems and says of each where in the file it stands."""

    def __init__(self, source: Source) -> None:
        """Begin an empty report on the file that `source` describes."""
        self._source = source
        self._problems: dict[Problem, None] = {}

    def add(self, path: Path, message: str, remedy: str, *, severity: Severity = "error") -> None:
        """Add a problem; one that was added before is not added twice."""
        file, line = self._source.locate(path)
        problem = Problem(file=file, line=line, path=dotted(path), message=message, remedy=remedy, severity=severity)
        self._problems[problem] = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return the problems in the order in which they were added."""
        return tuple(self._problems)


def read_source(path: FilePath) -> tuple[dict[str, Any], Source]:
    """Return the file as plain JSON, dates as text, and where its keys stand.

    Raises `RegistryError` with one problem if the file cannot be read or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except FileNotFoundError as error:
        raise _unreadable(path, "there is no such file", "name an existing registry file") from error
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror}", "mend its access rights or name a file") from error
    except UnicodeDecodeError as error:
        raise _unreadable(
            path, f"is not UTF-8 text: {error.reason} at byte {error.start}", "save it as UTF-8"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(path, str(error)) from error
    plain = json.loads(json.dumps(document, default=_as_text))
    return plain, Source(file=str(path), lines=_lines_of_keys(text, plain))


def _as_text(value: object) -> str:
    if isinstance(value, date | time):
        return value.isoformat()
    raise TypeError(f"{value!r} is no TOML value")


def _unreadable(path: FilePath, message: str, remedy: str) -> Exception:
    return registry_error([Problem(file=str(path), path="", message=message, remedy=remedy)])


def _not_toml(path: FilePath, message: str) -> Exception:
    place = _SYNTAX_PLACE.search(message)
    line = int(place["line"]) if place and place["line"] else None
    remedy = "mend the TOML syntax there; nothing else could be checked"
    message = f"not TOML: {message[0].lower()}{message[1:]}"
    return registry_error([Problem(file=str(path), path="", line=line, message=message, remedy=remedy)])


def _lines_of_keys(text: str, document: Mapping[str, Any]) -> dict[Path, int]:
    """Return the line of each table header and of each key that begins a line.

    A look at single lines, not a parser: keys inside inline tables have no line of their own, and
    what merely looks like a key inside a long string is left out because the document lacks it.
    """
    lines: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.fullmatch(line):
            table = _keys(header["keys"])
            found = table
        elif assignment := _ASSIGNMENT.match(line):
            found = (*table, *_keys(assignment["keys"]))
        else:
            continue
        if found and value_at(document, found) is not None:
            for depth in range(1, len(found) + 1):
                lines.setdefault(found[:depth], number)
    return lines


def _keys(text: str) -> Path:
    """Return the parts of a dotted key; none if the text is no key."""
    try:
        value: Any = tomllib.loads(f"{text} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    path: Path = ()
    while isinstance(value, dict) and len(value) == 1:
        key, value = next(iter(value.items()))
        path = (*path, key)
    return path
