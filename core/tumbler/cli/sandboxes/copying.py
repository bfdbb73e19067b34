"""`tumbler sandbox cp`: files and folders into a sandbox and out of it."""

import argparse
import contextlib
import os
import secrets
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import BinaryIO, Final

from tumbler.cli.sandboxes.reach import find, opened
from tumbler.contracts.sandbox_control import CompleteSandbox
from tumbler.contracts.sandbox_files import FileEntry
from tumbler.errors import PolicyDenied

__all__ = ["copy"]


@dataclass(frozen=True, kw_only=True)
class _LocalFile:
    path: Path
    below: PurePath
    mode: int

    @classmethod
    def of(cls, path: Path, below: PurePath) -> "_LocalFile":
        return cls(path=path, below=below, mode=stat.S_IMODE(path.stat().st_mode) & 0o777)


@dataclass(kw_only=True)
class _Tree:
    name: str
    folders: list[PurePath] = field(default_factory=list)
    files: list[_LocalFile] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)


_PIECE: Final = 1 << 18
_DEPTH: Final = 1000


async def copy(args: argparse.Namespace) -> int:
    """Copy in the direction that the arguments say; return 1 if something was left out."""
    (from_id, source), (to_id, target) = _split(args.source), _split(args.target)
    if (from_id is None) == (to_id is None):
        args.refuse("name the sandbox on one side: SANDBOX:PATH")
    async with opened(args) as backend:
        sandbox = await find(backend, from_id or to_id or "")
        if to_id is not None:
            return await _upload(sandbox, Path(source), target)
        return await _download(sandbox, source, Path(target))


def _split(argument: str) -> tuple[str | None, str]:
    """Return the sandbox and the path; a path that begins like one (`./a:b`) is no sandbox."""
    identity, separator, path = argument.partition(":")
    if not separator or "/" in identity or identity in ("", ".", ".."):
        return None, argument
    return identity, path or "."


async def _upload(sandbox: CompleteSandbox, source: Path, target: str) -> int:
    """Copy a file, or a folder with all in it; into `target` where that is a folder."""
    tree = _read_tree(source)
    if await _is_folder(sandbox, target):
        target = f"{target.rstrip('/')}/{tree.name}"
    for folder in tree.folders:
        await sandbox.mkdir(_below(target, folder))
    for file in tree.files:
        await sandbox.write_stream(_below(target, file.below), _file_pieces(file.path), mode=file.mode)
    return min(len(tree.left_out), 1)


def _below(target: str, place: PurePath) -> str:
    return target if place == PurePath() else f"{target}/{place.as_posix()}"


def _read_tree(source: Path) -> _Tree:
    """Look at a file, or at a folder with all in it; links are left out."""
    name = source.resolve().name
    if not source.is_dir():
        return _Tree(name=name, files=[_LocalFile.of(source, PurePath())])
    tree = _Tree(name=name)
    for folder, names, files in os.walk(source):
        place = Path(folder)
        tree.folders.append(place.relative_to(source))
        for entry in sorted([*names, *files]):
            mode = (place / entry).lstat().st_mode
            if stat.S_ISREG(mode):
                tree.files.append(_LocalFile.of(place / entry, place.relative_to(source) / entry))
            elif not stat.S_ISDIR(mode):
                tree.left_out.append(place / entry)
                _leave_out(place / entry)
    return tree


async def _file_pieces(source: Path) -> AsyncIterator[bytes]:
    with source.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


async def _download(sandbox: CompleteSandbox, source: str, target: Path) -> int:
    """Copy a file, or a folder with all in it; into `target` where that is a folder."""
    entry = await sandbox.stat(source)
    target = _into(target, entry.name)
    if entry.kind != "directory":
        return await _fetch(sandbox, entry, target)
    left_out = 0
    _make_folder(target)
    for each in await sandbox.list(source, depth=_DEPTH):
        below = each.path.removeprefix(entry.path.rstrip("/") + "/")
        place = target.joinpath(*(_safe(part) for part in below.split("/")))
        if each.kind == "directory":
            _make_folder(place)
        else:
            left_out += await _fetch(sandbox, each, place)
    return min(left_out, 1)


async def _fetch(sandbox: CompleteSandbox, entry: FileEntry, target: Path) -> int:
    """Copy one file; it appears only when it is whole. Links and devices are left out: they may lead anywhere."""
    if entry.kind != "file":
        return _leave_out(entry.path)
    with _replacing(target, entry.mode & 0o777) as file:
        async for piece in sandbox.read_stream(entry.path):
            file.write(piece)
    return 0


@contextlib.contextmanager
def _replacing(target: Path, mode: int) -> Iterator[BinaryIO]:
    temporary = target.with_name(f".{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _into(target: Path, name: str) -> Path:
    return target / _safe(name) if target.is_dir() else target


def _make_folder(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)


def _safe(name: str) -> str:
    """Return a name that comes out of a sandbox, if it is one; the sandbox's content is nobody's friend."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise PolicyDenied(f"the sandbox names a file {name!r}, which could lead out of the target")
    return name


async def _is_folder(sandbox: CompleteSandbox, path: str) -> bool:
    if path.endswith("/"):
        return True
    try:
        return (await sandbox.stat(path)).kind == "directory"
    except OSError:
        return False


def _leave_out(path: str | Path) -> int:
    print(f"tumbler: left out {path}: neither file nor folder", file=sys.stderr)
    return 1
