"""Find and read files of a sandbox by pattern and as text; knows only the files' protocol."""

import re
from collections.abc import Sequence
from typing import Final

from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.sandbox_files import FileEntry, FilesSandbox

__all__ = ["glob", "read_text", "write_text"]

_WILD: Final = re.compile(r"[*?\[]")


async def glob(sandbox: FilesSandbox, pattern: str) -> Sequence[FileEntry]:
    """Return the entries whose paths match, sorted by path; a folder that is not there has none.

    `*` and `?` stand for characters of one name, `[...]` for one of some, and `**` as a whole part for any
    number of folders. Names that begin with a dot match only a part that does. No link is followed.
    """
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if not parts:
        raise ValueError(f"the pattern {pattern!r} names nothing")
    fixed = 0
    while fixed < len(parts) - 1 and not _WILD.search(parts[fixed]):
        fixed += 1
    root = ("/" if pattern.startswith("/") else "") + "/".join(parts[:fixed])
    found: dict[str, FileEntry] = {}
    await _walk(sandbox, root or ".", parts[fixed:], found)
    return [found[path] for path in sorted(found)]


async def read_text(sandbox: Sandbox, path: str, *, encoding: str = "utf-8", limit: int = 10 << 20) -> str:
    """Return a file as text; raise `UnicodeDecodeError` where it is none, and what `read` raises."""
    return (await sandbox.read(path, limit=limit)).decode(encoding)


async def write_text(sandbox: Sandbox, path: str, text: str, *, encoding: str = "utf-8", mode: int = 0o644) -> None:
    """Write a text file; line ends stay as they are."""
    await sandbox.write(path, text.encode(encoding), mode=mode)


async def _walk(sandbox: FilesSandbox, folder: str, parts: Sequence[str], found: dict[str, FileEntry]) -> None:
    """Add what matches `parts` below `folder`."""
    part, rest = parts[0], parts[1:]
    if part == "**" and rest:
        await _walk(sandbox, folder, rest, found)
    try:
        entries = await sandbox.list(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    if part != "**":
        expression = re.compile(_translated(part), re.DOTALL)
        entries = [entry for entry in entries if expression.fullmatch(entry.name)]
    for entry in entries:
        if entry.name.startswith(".") and not part.startswith("."):
            continue
        if not rest:
            found[entry.path] = entry
        if entry.kind == "directory" and (rest or part == "**"):
            await _walk(sandbox, entry.path, parts if part == "**" else rest, found)


def _translated(part: str) -> str:
    """Return the regular expression of one part of a pattern."""
    pieces: list[str] = []
    position = 0
    while position < len(part):
        character = part[position]
        closing = part.find("]", position + 2) if character == "[" else -1
        if closing > 0:
            inside = part[position + 1 : closing].replace("\\", "\\\\").replace("[", "\\[")
            pieces.append(f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]")
            position = closing
        else:
            pieces.append({"*": ".*", "?": "."}.get(character, re.escape(character)))
        position += 1
    return "".join(pieces)
