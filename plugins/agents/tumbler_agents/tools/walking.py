"""Walks a tree of the sandbox with `find`, in one command whatever the tree's size; matches names, reads no file."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tumbler_agents.tools.bounds import decoded
from tumbler_agents.tools.checked import Refusal
from tumbler_agents.tools.patterns import compiled, fixed_folder
from tumbler_agents.tools.workplace import Workplace

__all__ = ["Entry", "Kind", "Walk", "matching", "walk"]

Kind: TypeAlias = Literal["folder", "link", "file", "other"]
_KINDS: Final[dict[str, Kind]] = {"d": "folder", "l": "link", "f": "file", "o": "other"}

# Names may hold anything but NUL and the slash, so each comes after its kind and before a NUL. There is one -exec only,
# because busybox's `find` carries out none where there are several.
_FIND: Final = """
cd -- "$1" || exit 3
shift
exec find . -mindepth 1 {depth} {enter} -exec sh -c '
for path do
  if [ -h "$path" ]; then kind=l; elif [ -d "$path" ]; then kind=d; elif [ -f "$path" ]; then kind=f; else kind=o; fi
  printf "%s%s\\0" "$kind" "$path"
done' sh {{}} +
"""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a walk came by."""

    path: str
    """Relative to the folder where the walk began."""
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class Walk:
    """The entries below a folder, sorted by path."""

    entries: Sequence[Entry]
    complete: bool
    """Whether none was left out because there are too many."""


async def walk(place: Workplace, folder: str, *, depth: int | None = None) -> Walk:
    """Return what is below the absolute path `folder`; folders that settings tell to skip are named, not entered."""
    skipped = place.settings.skipped_folders
    names = " -o ".join(f'-name "${{{number}}}"' for number in range(1, len(skipped) + 1))
    script = _FIND.format(
        depth=f"-maxdepth {depth}" if depth is not None else "",
        enter=f"\\( ! -type d -o ! \\( {names} \\) -o -prune \\)" if skipped else "",
    )
    result = await place.run(["sh", "-c", script, "sh", folder, *(_literal(name) for name in skipped)])
    if result.exit_code == 3:
        raise Refusal(f"{await place.shown(folder)} is no folder that can be entered")
    if result.exit_code != 0 and not result.stdout:
        raise Refusal(f"the files cannot be listed: {decoded(result.stderr).strip()}")
    records = result.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]
    entries = [Entry(path=record[3:], kind=_KINDS[record[0]]) for record in records]
    return Walk(entries=sorted(entries, key=lambda entry: entry.path), complete=not result.truncated)


async def matching(place: Workplace, pattern: str, folder: str = ".") -> tuple[Sequence[str], bool]:
    """Return the absolute paths of files and links that match a pattern, sorted, and whether these are all.

    With a slash at the end of the pattern, those of folders. Raises `Refusal` where the folder is not there.
    """
    fixed, rest = fixed_folder(pattern.rstrip("/"))
    root = await place.absolute(posixpath.join(folder, fixed))
    found = await walk(place, root, depth=None if "**" in rest else rest.count("/") + 1)
    expression = compiled(rest)
    folders = pattern.endswith("/")
    paths = [
        posixpath.join(root, entry.path)
        for entry in found.entries
        if (entry.kind == "folder") == folders and expression.fullmatch(entry.path)
    ]
    return paths, found.complete


def _literal(name: str) -> str:
    """Return a name with the characters that `find -name` takes for patterns escaped."""
    return "".join(f"\\{letter}" if letter in "*?[\\" else letter for letter in name)
