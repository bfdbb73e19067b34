"""Finds lines in files of a sandbox with whichever program it has: ripgrep, GNU grep or busybox's; shows nothing."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tumbler_agents.tools.bounds import decoded
from tumbler_agents.tools.checked import Refusal
from tumbler_agents.tools.workplace import Workplace

__all__ = ["Hit", "Query", "found_lines"]

_FAILED: Final = (126, 127)

# Each program is tried on an empty line first: one that lacks an option or refuses the expression is passed over.
# `--null` puts a NUL behind the file's name, so that names may hold colons; busybox's grep has no such option, and
# does not know binary files either.
_SEARCH: Final = """
kind=$1 perl=$2 plain=$3
shift 3
takes() { said=$(echo | "$@" 2>&1) && : || [ $? -eq 1 ] && [ -z "$said" ]; }
if command -v rg >/dev/null 2>&1; then
  fixed=; [ "$kind" = literal ] && fixed=-F
  takes rg --no-config $fixed "$@" -e "$perl" &&
    exec xargs -0 rg --no-config --no-heading --color=never --null -nH $fixed "$@" -e "$perl" --
fi
[ "$kind" = literal ] && flavours=-F || flavours='-P -E'
command -v grep >/dev/null 2>&1 || flavours=
for flavour in $flavours; do
  [ $flavour = -P ] && pattern=$perl || pattern=$plain
  [ "$kind" = literal ] && pattern=$perl
  takes grep $flavour --null -I "$@" -e "$pattern" && exec xargs -0 grep $flavour --null -InH "$@" -e "$pattern" --
  takes grep $flavour "$@" -e "$pattern" && exec xargs -0 grep $flavour -nH "$@" -e "$pattern" --
done
printf '%s\\n' "${said:-neither rg nor grep is there}" >&2
exit 126
"""
_WITH_NUL: Final = re.compile(r"([^\0]*)\0(\d+)([:-])([^\n]*)(?:\n|\Z)")
_WITHOUT_NUL: Final = re.compile(r"(.+?)([:-])(\d+)\2(.*)")


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is looked for."""

    pattern: str
    literal: bool
    ignore_case: bool
    context: int
    """Lines before and after each that matches."""
    most: int
    """Lines that match, of each file."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A line that matches, or one beside it."""

    path: str
    number: int
    """From 1."""
    matches: bool
    text: str


async def found_lines(place: Workplace, folder: str, files: Sequence[str], query: Query) -> tuple[Sequence[Hit], bool]:
    """Return the hits in files below a folder, sorted, and whether no output was lost.

    Raises `Refusal` where no program takes the expression.
    """
    options = [*(["-i"] if query.ignore_case else []), *(["-C", str(query.context)] if query.context else [])]
    kind = "literal" if query.literal else "expression"
    plain = query.pattern if query.literal else _extended(query.pattern)
    command = ["sh", "-c", _SEARCH, "sh", kind, query.pattern, plain, "-m", str(query.most), *options]
    names = "".join(f"./{path}\0" for path in files).encode("utf-8", "surrogateescape")
    result = await place.run(command, cwd=folder, given=names)
    if result.exit_code in _FAILED:
        raise Refusal(f"the pattern cannot be searched for: {decoded(result.stderr).strip()}")
    hits = _parsed(result.stdout.decode("utf-8", "surrogateescape"), {f"./{path}" for path in files})
    return sorted(hits, key=lambda hit: (hit.path, hit.number)), not result.truncated


def _parsed(output: str, known: set[str]) -> list[Hit]:
    """Return the hits of known files; notices about binary files and separators are passed over."""
    hits: list[Hit] = []
    if "\0" in output:
        for before, number, mark, text in _WITH_NUL.findall(output):
            path = _last_known(before, known)
            if path is not None:
                hits.append(Hit(path=path[2:], number=int(number), matches=mark == ":", text=text))
        return hits
    for line in output.split("\n"):
        found = _WITHOUT_NUL.match(line)
        if found and found[1] in known:
            hits.append(Hit(path=found[1][2:], number=int(found[3]), matches=found[2] == ":", text=found[4]))
    return hits


def _last_known(text: str, known: set[str]) -> str | None:
    """Return the known path that the text ends with, after lines that are none."""
    while text not in known and "\n" in text:
        text = text.partition("\n")[2]
    return text if text in known else None


def _extended(pattern: str) -> str:
    """Return a Perl-like expression as POSIX writes it, as far as that can be said."""
    classes = {"d": "[0-9]", "D": "[^0-9]", "s": "[[:space:]]", "S": "[^[:space:]]"}
    inside = {"d": "0-9", "s": "[:space:]", "w": "[:alnum:]_"}
    pieces: list[str] = []
    position, bracket = 0, False
    while position < len(pattern):
        character, following = pattern[position], pattern[position + 1 : position + 2]
        if character == "\\" and following:
            known = inside if bracket else classes
            pieces.append(known.get(following, following if bracket else character + following))
            position += 2
            continue
        if pattern.startswith("(?:", position) and not bracket:
            pieces.append("(")
            position += 3
            continue
        bracket = (character == "[" and not bracket) or (bracket and character != "]")
        pieces.append(character)
        position += 1
    return "".join(pieces)
