"""Patterns of paths: `*`, `?`, `[...]`, `**` for any number of folders, and `{a,b}` for either; knows no sandbox."""

import re
from typing import Final

__all__ = ["compiled", "fixed_folder", "is_pattern"]

_WILD: Final = re.compile(r"[*?\[{]")


def is_pattern(text: str) -> bool:
    """Tell whether the text holds a character that stands for others."""
    return _WILD.search(text) is not None


def fixed_folder(pattern: str) -> tuple[str, str]:
    """Return the folder that a pattern begins with, `.` where it has none, and the rest of it."""
    parts = [part for part in pattern.split("/") if part != "."]
    fixed = 0
    while fixed < len(parts) - 1 and not is_pattern(parts[fixed]):
        fixed += 1
    folder = "/".join(parts[:fixed])
    return folder or ("/" if pattern.startswith("/") else "."), "/".join(parts[fixed:])


def compiled(pattern: str) -> re.Pattern[str]:
    """Return the expression that the whole of a relative path must match.

    Names that begin with a dot are matched like others.
    """
    return re.compile("".join(_translated(pattern)), re.DOTALL)


def _translated(pattern: str) -> list[str]:
    pieces: list[str] = []
    position, depth = 0, 0
    while position < len(pattern):
        character = pattern[position]
        if character == "*":
            piece, position = _star(pattern, position)
        elif character == "[":
            piece, position = _choice(pattern, position)
        else:
            opens = character == "{" and _closing(pattern, position) > 0
            depth += opens
            inside = depth > 0
            piece = {"?": "[^/]"}.get(character, re.escape(character))
            if opens:
                piece = "(?:"
            elif inside and character in ",}":
                piece = "|" if character == "," else ")"
                depth -= character == "}"
            position += 1
        pieces.append(piece)
    return pieces


def _star(pattern: str, position: int) -> tuple[str, int]:
    """Return what a run of stars stands for: of two as a whole part any number of folders, else part of a name."""
    end = position
    while pattern[end : end + 1] == "*":
        end += 1
    whole = position == 0 or pattern[position - 1] == "/"
    if end - position > 1 and whole and end == len(pattern):
        return ".*", end
    if end - position > 1 and whole and pattern[end] == "/":
        return "(?:[^/]+/)*", end + 1
    return "[^/]*", end


def _choice(pattern: str, position: int) -> tuple[str, int]:
    closing = pattern.find("]", position + 2)
    if closing < 0:
        return re.escape("["), position + 1
    inside = pattern[position + 1 : closing]
    negated = inside[0] in "!^"
    letters = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[1:] if negated else inside)
    return f"(?!/)[{'^' if negated else ''}{letters}]", closing + 1


def _closing(pattern: str, position: int) -> int:
    depth = 0
    for at in range(position, len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[at], 0)
        if depth == 0:
            return at
    return -1
