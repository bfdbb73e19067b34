"""Unpack a tar or zip archive that untrusted code made; knows no sandbox."""

import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

from tumbler.errors import PolicyDenied
from tumbler.sandboxes.host_folder import HostFolder, safe_parts
from tumbler.sandboxes.transfer import Transfer

__all__ = ["unpack"]

_PIECE: Final = 1 << 20
_LINK_BYTES: Final = 4096


@dataclass(frozen=True, kw_only=True)
class _Member:
    """One entry of an archive of either kind."""

    name: str
    kind: Literal["file", "folder", "symlink", "hardlink", "other"]
    mode: int
    target: str = ""
    content: IO[bytes] | None = None


def unpack(archive: Path, destination: Path, *, limit: int = 8 << 30, entries: int = 1_000_000) -> Transfer:
    """Unpack a tar archive of any compression, or a zip archive, into the folder `destination`; blocks.

    Absolute names, `..`, devices, and links that lead out of the folder are left out and named in the
    result; no link is written through. Raises `OSError` with `EFBIG` past `limit` bytes in all, and
    `PolicyDenied` past so many entries; what was written before stays.
    """
    moved = Transfer()
    members = _of_zip(archive) if zipfile.is_zipfile(archive) else _of_tar(archive)
    with HostFolder(destination) as target:
        for number, member in enumerate(members):
            if number >= entries:
                raise PolicyDenied(f"{archive} has more than {entries} entries")
            try:
                _write(member, target, moved, limit)
            except PolicyDenied as error:
                moved.skipped.append(f"{member.name}: {error}")
    return moved


def _write(member: _Member, target: HostFolder, moved: Transfer, limit: int) -> None:
    if member.kind == "folder" and not member.name.strip("./"):
        return
    parts = safe_parts(member.name)
    if member.kind == "folder":
        target.folder(parts)
        moved.folders += 1
    elif member.kind == "symlink":
        target.symlink(parts, member.target)
        moved.links += 1
    elif member.kind == "hardlink":
        target.hardlink(parts, safe_parts(member.target))
        moved.links += 1
    elif member.content is not None:
        with target.file(parts, member.mode) as file:
            while piece := member.content.read(_PIECE):
                moved.add(len(piece), limit)
                file.write(piece)
        moved.files += 1
    else:
        raise PolicyDenied("neither file nor folder nor link")


def _of_tar(archive: Path) -> Iterator[_Member]:
    # As a stream: the index of a huge archive would not fit into memory.
    with tarfile.open(archive, "r|*") as tar:
        for info in tar:
            yield _Member(
                name=info.name,
                kind=_kind_in_tar(info),
                mode=info.mode,
                target=info.linkname,
                content=tar.extractfile(info) if info.isfile() else None,
            )
            tar.members = []  # type: ignore[attr-defined]  # tarfile remembers all otherwise; the stubs lack it


def _kind_in_tar(info: tarfile.TarInfo) -> Literal["file", "folder", "symlink", "hardlink", "other"]:
    if info.isdir():
        return "folder"
    if info.issym():
        return "symlink"
    if info.islnk():
        return "hardlink"
    return "file" if info.isfile() else "other"


def _of_zip(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            mode = info.external_attr >> 16
            kind = stat.S_IFMT(mode)
            if info.is_dir():
                yield _Member(name=info.filename, kind="folder", mode=mode)
            elif kind == stat.S_IFLNK:
                with opened.open(info) as content:
                    target = content.read(_LINK_BYTES).decode("utf-8", "surrogateescape")
                yield _Member(name=info.filename, kind="symlink", mode=mode, target=target)
            elif kind in (0, stat.S_IFREG):
                with opened.open(info) as content:
                    yield _Member(name=info.filename, kind="file", mode=mode & 0o777 or 0o644, content=content)
            else:
                yield _Member(name=info.filename, kind="other", mode=mode)
