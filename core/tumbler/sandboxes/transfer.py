"""Move files and folders between this machine and a sandbox; memory does not depend on their size.

What comes out of a sandbox is untrusted: names, links and devices never lead out of the destination.
"""

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.sandbox_files import FileEntry, FilesSandbox
from tumbler.errors import PolicyDenied
from tumbler.sandboxes.host_folder import HostFolder, safe_parts

__all__ = ["Transfer", "TransferSandbox", "download", "upload"]

_PIECE: Final = 1 << 20
_AT_ONCE: Final = 8
"""Files moved at one time."""


class TransferSandbox(Sandbox, FilesSandbox, Protocol):
    """A sandbox with files and commands."""


@dataclass(kw_only=True)
class Transfer:
    """What was moved."""

    files: int = 0
    folders: int = 0
    links: int = 0
    bytes: int = 0
    skipped: list[str] = field(default_factory=list)
    """What was left out, each with the reason: devices, pipes, and links that lead elsewhere."""

    def add(self, count: int, limit: int | None) -> None:
        """Count bytes; raise `OSError` with `EFBIG` past the limit."""
        self.bytes += count
        if limit is not None and self.bytes > limit:
            raise OSError(errno.EFBIG, f"more than the limit of {limit} bytes")


async def upload(sandbox: TransferSandbox, source: Path, destination: str) -> Transfer:
    """Copy a file or folder of this machine to the path `destination` inside, parents made.

    Permissions are kept. Of links, those within the folder are kept and others left out. A link given
    as `source` itself is followed. Raises the builtin `OSError` classes of either side.
    """
    moved = Transfer()
    source = await asyncio.to_thread(source.resolve, strict=True)
    if source.is_dir():
        turn = asyncio.Semaphore(_AT_ONCE)
        await sandbox.mkdir(destination)
        for folder, entries in _walk(source):
            inside = _joined(destination, folder)
            if folder:
                moved.folders += 1
                await sandbox.mkdir(inside)
            await asyncio.gather(*(_upload_entry(sandbox, source, entry, inside, moved, turn) for entry in entries))
    else:
        await _upload_file(sandbox, source, destination, moved)
    return moved


async def download(sandbox: TransferSandbox, source: str, destination: Path, *, limit: int | None = None) -> Transfer:
    """Copy a file or folder of the sandbox to the path `destination` here, parents made.

    Permissions but for set-user-id and the like are kept. Links that lead out of the folder, devices and pipes
    are left out and named in the result. Raises `OSError` with `EFBIG` past `limit` bytes in all, and
    the builtin `OSError` classes of either side.
    """
    moved = Transfer()
    entry = await sandbox.stat(source)
    if entry.kind == "directory" or (entry.kind == "symlink" and await _leads_to_folder(sandbox, source)):
        with HostFolder(destination) as target:
            await _download_folder(sandbox, source, "", target, moved, limit)
    else:
        with HostFolder(destination.parent) as target:
            await _download_file(sandbox, source, (destination.name,), entry, target, moved, limit)
    return moved


def _walk(source: Path) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Yield each folder's path relative to `source`, with what in it is no folder; parents come first."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(source / folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        yield folder, [entry for entry in found if not entry.is_dir(follow_symlinks=False)]
        waiting += [_joined(folder, entry.name) for entry in reversed(found) if entry.is_dir(follow_symlinks=False)]


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name


async def _upload_entry(
    sandbox: TransferSandbox,
    source: Path,
    entry: os.DirEntry[str],
    folder: str,
    moved: Transfer,
    turn: asyncio.Semaphore,
) -> None:
    async with turn:
        path = _joined(folder, entry.name)
        if entry.is_symlink():
            target, inside = await asyncio.to_thread(_judged, Path(entry.path), source)
            if not inside:
                moved.skipped.append(f"{entry.path}: the link leads out of the folder, to {target}")
                return
            await sandbox.exec(["ln", "-sfn", "--", target, path], check=True)
            moved.links += 1
        elif entry.is_file(follow_symlinks=False):
            await _upload_file(sandbox, Path(entry.path), path, moved)
        else:
            moved.skipped.append(f"{entry.path}: neither file nor folder nor link")


def _judged(link: Path, source: Path) -> tuple[str, bool]:
    """Return a link's target, and whether it stays in the folder by where all links on its way really lead."""
    target = link.readlink()
    return str(target), not target.is_absolute() and link.resolve().is_relative_to(source)


async def _upload_file(sandbox: TransferSandbox, source: Path, destination: str, moved: Transfer) -> None:
    # A pipe put in the file's place meanwhile must not block.
    descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(source))
        await sandbox.write_stream(destination, _pieces(file, moved), mode=status.st_mode & 0o777)
    moved.files += 1


async def _pieces(file: BinaryIO, moved: Transfer) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE):
        moved.add(len(piece), None)
        yield piece


async def _leads_to_folder(sandbox: TransferSandbox, path: str) -> bool:
    try:
        await sandbox.list(path)
    except NotADirectoryError:
        return False
    return True


async def _download_folder(
    sandbox: TransferSandbox, source: str, folder: str, target: HostFolder, moved: Transfer, limit: int | None
) -> None:
    for entry in await sandbox.list(source):
        inside = _joined(folder, entry.name)
        try:
            parts = safe_parts(inside)
            if entry.kind == "directory":
                target.folder(parts)
                moved.folders += 1
                await _download_folder(sandbox, entry.path, inside, target, moved, limit)
            elif entry.kind == "symlink":
                target.symlink(parts, entry.target or "")
                moved.links += 1
            elif entry.kind == "file":
                await _download_file(sandbox, entry.path, parts, entry, target, moved, limit)
            else:
                moved.skipped.append(f"{inside}: neither file nor folder nor link")
        except PolicyDenied as error:
            moved.skipped.append(f"{inside}: {error}")


async def _download_file(
    sandbox: TransferSandbox,
    source: str,
    parts: tuple[str, ...],
    entry: FileEntry,
    target: HostFolder,
    moved: Transfer,
    limit: int | None,
) -> None:
    with target.file(parts, entry.mode if entry.kind == "file" else 0o644) as file:
        async for piece in sandbox.read_stream(source):
            moved.add(len(piece), limit)
            await asyncio.to_thread(file.write, piece)
    moved.files += 1
