"""Reads a command line of the twin's language; knows no command and no file.

The language is a part of bash's in which every line means the same as in bash: words, quotes, `;`,
`&&`, `||`, and one output redirection for each command. Whatever else bash gives a meaning to
(expansion, globs, pipes, other redirections, control structures) is refused, never guessed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

__all__ = ["Command", "Connector", "Redirection", "UnsupportedError", "parse"]

Connector: TypeAlias = Literal[";", "&&", "||"]

_MAX_LENGTH = 1000

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t]+)
  | (?P<operator>&&|\|\||>>|[;>])
  | (?P<word>(?: [A-Za-z0-9_./:,+@%^=-]+ | '[^']*' | "[^"$`\\!]*" | \\[^A-Za-z0-9\s] )+)
    """,
    re.VERBOSE,
)
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)"|\\(.)""")


class UnsupportedError(Exception):
    """The line, or what it asks for, lies outside the twin's language. Never leaves the twin."""


@dataclass(frozen=True)
class Redirection:
    """Where a command's standard output goes."""

    path: str
    append: bool


@dataclass
class Command:
    """One simple command and how it hangs on the one before."""

    connector: Connector = ";"
    words: list[str] = field(default_factory=list)
    redirection: Redirection | None = None


def parse(line: str) -> list[Command]:
    """Return the commands of a line in order; raise `UnsupportedError` if any part of it is not in the language."""
    if len(line) > _MAX_LENGTH or not line.isascii() or not line.replace("\t", " ").isprintable():
        raise UnsupportedError
    tokens = _tokens(line)
    commands = [Command()]
    for operator, text in tokens:
        current = commands[-1]
        if not operator:
            current.words.append(text)
        elif text in (">", ">>"):
            current.redirection = _redirection(current, text, next(tokens, None))
        elif not current.words:
            raise UnsupportedError
        else:
            commands.append(Command(connector=cast("Connector", text)))
    return _complete(commands)


def _complete(commands: list[Command]) -> list[Command]:
    """Drop the empty command behind a final `;`; any other empty command is an error of syntax in bash."""
    last = commands[-1]
    if len(commands) > 1 and last.connector == ";" and not last.words and last.redirection is None:
        commands.pop()
    if not all(command.words for command in commands):
        raise UnsupportedError
    return commands


def _redirection(command: Command, operator: str, target: tuple[bool, str] | None) -> Redirection:
    if command.redirection is not None or target is None or target[0]:
        raise UnsupportedError
    return Redirection(path=target[1], append=operator == ">>")


def _tokens(line: str) -> Iterator[tuple[bool, str]]:
    """Yield (whether it is an operator, text without quotes)."""
    position = 0
    word = ""
    while position < len(line):
        match = _TOKEN.match(line, position)
        if match is None or (match["operator"] in (">", ">>") and word.isdigit()):
            raise UnsupportedError  # `2>` redirects another stream
        position = match.end()
        word = match["word"] or ""
        if match["operator"]:
            yield True, match["operator"]
        elif word:
            yield False, _QUOTED.sub(lambda quoted: quoted[1] or quoted[2] or quoted[3] or "", word)
