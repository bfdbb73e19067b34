"""`@path` in a memory file stands for that file's text; knows no memory."""

import posixpath
import re
from typing import Final

from tumbler_agents.iflow.texts import Texts

__all__ = ["DEEPEST", "MOST", "expanded"]

DEEPEST: Final = 5
"""Imports within imports are followed so far."""
MOST: Final = 200
"""Names that are looked up for one file, those in its imports among them: each costs a command in the sandbox."""

_FENCE: Final = re.compile(r"\s*(```|~~~)")
_CODE: Final = re.compile(r"(`+[^`]*`+)")
_IMPORT: Final = re.compile(r"(?<![\w@/.`])@((?:\.{1,2}/|~?/)?[\w.-]+(?:/[\w.-]+)*)")
_PUNCTUATION: Final = ".,;:!?"


async def expanded(texts: Texts, path: str, text: str) -> str:
    """Return the text of the file `path` with its imports in place.

    A path is relative to the file that names it. What stands in code, or is no file, stays as it is; a file that
    imports itself, also by way of others, is left out there, and so is one more than five imports deep, and all that
    come after the first `MOST`.
    """
    return await _expanded(_Bounded(texts), path, text, (posixpath.normpath(path),))


class _Bounded:
    """Texts that are looked up so many times."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self.left = MOST

    async def read(self, path: str) -> str | None:
        self.left -= 1
        return await self._texts.read(path)


async def _expanded(texts: _Bounded, path: str, text: str, chain: tuple[str, ...]) -> str:
    lines: list[str] = []
    fence: str | None = None
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if mark is not None and fence in (None, mark[1]):
            fence = mark[1] if fence is None else None
        elif fence is None:
            line = await _line(texts, path, line, chain)  # noqa: PLW2901  # the line with its imports in place
        lines.append(line)
    return "\n".join(lines)


async def _line(texts: _Bounded, path: str, line: str, chain: tuple[str, ...]) -> str:
    parts: list[str] = []
    for index, part in enumerate(_CODE.split(line)):
        if index % 2:
            parts.append(part)
            continue
        end = 0
        for match in _IMPORT.finditer(part):
            name = match[1].rstrip(_PUNCTUATION)
            parts.append(part[end : match.start()])
            parts.append(await _imported(texts, path, name, chain))
            end = match.start(1) + len(name)
        parts.append(part[end:])
    return "".join(parts)


async def _imported(texts: _Bounded, path: str, name: str, chain: tuple[str, ...]) -> str:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
    if target in chain:
        return f"(@{name} is left out: it imports itself)"
    if texts.left <= 0:
        return f"(@{name} is left out: more than {MOST} names)"
    text = await texts.read(target)
    if text is None:
        return f"@{name}"
    if len(chain) > DEEPEST:
        return f"(@{name} is left out: more than {DEEPEST} imports deep)"
    return (await _expanded(texts, target, text, (*chain, target))).strip("\n")
