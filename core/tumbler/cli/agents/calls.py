"""Tool calls in short, and what they change as a diff; goes by the usual names of arguments and knows no tool."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tumbler.contracts.values import JSON, JSONObject

__all__ = ["beside_changes", "changes", "headline", "in_full"]

_TELLING: Final = ("command", "path", "paths", "pattern", "query", "prompt", "plan", "fact", "url")
"""Arguments that tell most, the most telling first."""
_LINE: Final = 100
_OF_EDIT: Final = {"old", "new", "replace_all"}


def headline(name: str, arguments: JSONObject) -> str:
    """Return a call on one line."""
    told = next((arguments[key] for key in _TELLING if arguments.get(key)), None)
    if told is None:
        told = next(iter(arguments.values()), "")
    words = " ".join(str(each) for each in told) if isinstance(told, list | tuple) else str(told)
    line = " ".join(words.split())
    return f"{name} {line if len(line) <= _LINE else f'{line[: _LINE - 1]}…'}".rstrip()


def in_full(arguments: JSONObject) -> Sequence[str]:
    """Return all that a call says, where its headline does not."""
    shown: list[str] = []
    for key, value in arguments.items():
        text = value if isinstance(value, str) else repr(value)
        lines = text.splitlines() or [""]
        shown += [f"{key}: {lines[0]}"] if len(lines) == 1 else [f"{key}:", *(f"  {line}" for line in lines)]
    return shown


def changes(arguments: JSONObject, before: str | None) -> Sequence[str]:
    """Return the lines that a call takes away and puts in, as a diff has them; none where it changes no file.

    `before` is the file as it was, where that is known: lines around a change and line numbers are then shown.
    """
    if not isinstance(arguments.get("path"), str):
        return []
    content = arguments.get("content")
    if isinstance(content, str):
        return _diff(before or "", content)
    edits = _edits(arguments)
    if not edits:
        return []
    if before is not None and all(old in before for old, _, _ in edits[:1]):
        after = before
        for old, new, everywhere in edits:
            after = after.replace(old, new, -1 if everywhere else 1)
        return _diff(before, after)
    return [line for old, new, _ in edits for line in _diff(old, new)]


def beside_changes(arguments: JSONObject) -> JSONObject:
    """Return the arguments that the lines of `changes` do not show."""
    if isinstance(arguments.get("content"), str):
        shown = {"content"}
    elif isinstance(listed := arguments.get("edits"), list | tuple):
        shown = {"edits"} if all(_is_shown(each) for each in listed) else set()
    else:
        shown = _OF_EDIT - ({"replace_all"} if arguments.get("replace_all") else set())
    return {key: value for key, value in arguments.items() if key not in {"path", *shown}}


def _is_shown(edit: JSON) -> bool:
    return isinstance(edit, Mapping) and edit.keys() <= _OF_EDIT and bool(list(_replacements([edit])))


def _edits(arguments: JSONObject) -> Sequence[tuple[str, str, bool]]:
    listed = arguments.get("edits")
    found = listed if isinstance(listed, list | tuple) else [arguments]
    return list(_replacements(found))


def _replacements(found: Sequence[JSON]) -> Iterator[tuple[str, str, bool]]:
    for each in found:
        if isinstance(each, Mapping):
            old, new = each.get("old"), each.get("new")
            if isinstance(old, str) and isinstance(new, str) and old:
                yield old, new, each.get("replace_all") is True


def _diff(before: str, after: str) -> Sequence[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2)
    return list(lines)[2:]
