"""The programs of the twin: cat, grep, ls, tar, expr, echo, pwd, cd, word for word as bash and GNU answer."""

import re
from collections.abc import Callable, Mapping, Sequence

from tumbler_envs.trail.layout import WORKDIR
from tumbler_envs.trail.shell import Output
from tumbler_envs.trail.twin.folder import Folder
from tumbler_envs.trail.twin.grammar import UnsupportedError

__all__ = ["PROGRAMS", "Program"]

Program = Callable[[Sequence[str], Folder], Output]
"""Takes the words after the program's name."""

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,8}")
_EXPR_OPERAND = re.compile(r"(?!(?:match|substr|index|length)$|--)[A-Za-z0-9_./:,-]*[A-Za-z0-9_.]:?")
"""Leaves out what `expr` may read as an operator or an option."""


def _cat(words: Sequence[str], folder: Folder) -> Output:
    _refuse_options(words)
    stdout, stderr = b"", ""
    for path in words:
        name = folder.name(path)
        content = folder.read(name)
        if not name:
            stderr += f"cat: {path}: Is a directory\n"
        elif content is None:
            stderr += f"cat: {path}: No such file or directory\n"
        else:
            stdout += content
    return Output(stdout=stdout, stderr=stderr.encode(), exit_code=1 if stderr else 0)


def _grep(words: Sequence[str], folder: Folder) -> Output:
    if not 1 <= len(words) <= 2 or not re.fullmatch(r"[A-Za-z0-9]+", words[0]):
        raise UnsupportedError
    if len(words) == 1:
        return Output(exit_code=1)
    path = words[1]
    if path.startswith("-"):
        raise UnsupportedError
    name = folder.name(path)
    content = folder.read(name)
    if not name:
        return _failure(2, f"grep: {path}: Is a directory")
    if content is None:
        return _failure(2, f"grep: {path}: No such file or directory")
    if b"\0" in content:
        raise UnsupportedError  # what grep says of a binary file depends on its version
    lines = [line for line in content.decode().splitlines() if words[0] in line]
    return Output(stdout="".join(f"{line}\n" for line in lines).encode(), exit_code=0 if lines else 1)


def _ls(words: Sequence[str], folder: Folder) -> Output:
    _refuse_options(words)
    if len(words) > 1:
        raise UnsupportedError
    path = words[0] if words else "."
    name = folder.name(path)
    if not name:
        return Output(stdout="".join(f"{each}\n" for each in folder.names()).encode())
    if name not in folder:
        return _failure(2, f"ls: cannot access '{path}': No such file or directory")
    return Output(stdout=f"{path}\n".encode())


def _tar(words: Sequence[str], folder: Folder) -> Output:
    if len(words) != 2 or words[0].removeprefix("-") not in ("xf", "xvf", "tf") or ":" in words[1]:
        raise UnsupportedError  # a colon would name another machine
    path = words[1]
    name = folder.name(path)
    if not name or path.startswith("-"):
        raise UnsupportedError
    if name not in folder:
        return _failure(
            2, f"tar: {path}: Cannot open: No such file or directory", "tar: Error is not recoverable: exiting now"
        )
    packed = folder.unpack(name)
    if packed is None:
        return _failure(
            2, "tar: This does not look like a tar archive", "tar: Exiting with failure status due to previous errors"
        )
    if "x" in words[0]:
        folder.write(packed.member, packed.text.encode())
    return Output(stdout=b"" if words[0].endswith("xf") else f"{packed.member}\n".encode())


def _expr(words: Sequence[str], _folder: Folder) -> Output:
    if not words:
        return _failure(2, "expr: missing operand", "Try 'expr --help' for more information.")
    if not all(_EXPR_OPERAND.fullmatch(word) or word in ("+", "-") for word in words) or words[0] in ("+", "-"):
        raise UnsupportedError
    value, position = words[0], 1
    while position < len(words) and words[position] in ("+", "-"):
        operator = words[position]
        if position + 1 == len(words):
            return _failure(2, f"expr: syntax error: missing argument after '{operator}'")
        operand = words[position + 1]
        if operand in ("+", "-"):
            raise UnsupportedError
        if not (_INTEGER.fullmatch(value) and _INTEGER.fullmatch(operand)):
            return _not_integers(value, operand)
        value = str(int(value) + int(operand) if operator == "+" else int(value) - int(operand))
        position += 2
    if position < len(words):
        return _failure(2, f"expr: syntax error: unexpected argument '{words[position]}'")
    if value.strip("-0") == "" and value != "0":
        raise UnsupportedError
    return Output(stdout=f"{value}\n".encode(), exit_code=1 if value == "0" else 0)


def _not_integers(*operands: str) -> Output:
    if any(re.fullmatch(r"-?\d+", operand) and not _INTEGER.fullmatch(operand) for operand in operands):
        raise UnsupportedError  # leading zeros and very long numbers
    return _failure(2, "expr: non-integer argument")


def _echo(words: Sequence[str], _folder: Folder) -> Output:
    if words and re.fullmatch(r"-[neE]+", words[0]):
        raise UnsupportedError
    return Output(stdout=(" ".join(words) + "\n").encode())


def _pwd(words: Sequence[str], _folder: Folder) -> Output:
    _refuse_options(words)
    return Output(stdout=f"{WORKDIR}\n".encode())


def _cd(words: Sequence[str], folder: Folder) -> Output:
    _refuse_options(words)
    if len(words) > 1:
        return _failure(1, "bash: cd: too many arguments")
    if not words or not words[0]:
        raise UnsupportedError
    name = folder.name(words[0])
    if not name:
        return Output()
    reason = "Not a directory" if name in folder else "No such file or directory"
    return _failure(1, f"bash: cd: {words[0]}: {reason}")


def _refuse_options(words: Sequence[str]) -> None:
    if any(word.startswith("-") for word in words):
        raise UnsupportedError


def _failure(exit_code: int, *lines: str) -> Output:
    return Output(stderr="".join(f"{line}\n" for line in lines).encode(), exit_code=exit_code)


PROGRAMS: Mapping[str, Program] = {
    "cat": _cat,
    "cd": _cd,
    "echo": _echo,
    "expr": _expr,
    "grep": _grep,
    "ls": _ls,
    "pwd": _pwd,
    "tar": _tar,
}
