"""Unpack a tar archive of a root file system into a folder, trusting nothing in it; knows no image store.

The standard library's filters refuse the absolute links that every root file system has. Here the
links stay as they are, and each member is made below a descriptor of the folder, so that none of
them is followed out of it. Device nodes and pipes are left out, set-user-id bits are dropped, and
everything belongs to whoever unpacks.
"""

import contextlib
import os
import posixpath
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.posix.opening import make_folders, open_inside, opened

__all__ = ["unpack"]

_ZSTANDARD: Final = b"\x28\xb5\x2f\xfd"
_MODE: Final = 0o1777
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK: Final = 1 << 18


def unpack(archive: Path, folder: Path) -> int:
    """Unpack `archive` (plain, gzip, bzip2, xz or zstd) into the empty `folder`; return how many entries it holds.

    Raises `tarfile.TarError`, `ValueError` for a member whose name leads out, and `OSError`.
    """
    count = 0
    with (
        opened(os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as root,
        archive.open("rb") as file,
        _decompressed(file) as stream,
        tarfile.open(fileobj=stream, mode="r|*") as tar,
    ):
        for member in tar:
            _extract(tar, member, root)
            count += 1
    return count


@contextlib.contextmanager
def _decompressed(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Undo zstd; tarfile undoes the others itself."""
    magic = file.read(len(_ZSTANDARD))
    file.seek(0)
    if magic != _ZSTANDARD:
        yield file
        return
    os.lseek(file.fileno(), 0, os.SEEK_SET)  # the program reads from the descriptor, not from the buffer
    program = shutil.which("zstd")
    if program is None:
        raise CapabilityError("a .zst archive needs the program zstd: apt-get install zstd, or unpack it yourself")
    with subprocess.Popen([program, "-dcq"], stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        if process.stdout is None:
            raise OSError("zstd has no output")
        try:
            yield process.stdout
        finally:
            process.kill()


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, root: int) -> None:
    if ".." in member.name.split("/"):
        raise ValueError(f"the member {member.name!r} leads out of the archive")
    path = posixpath.normpath(f"/{member.name}").replace("//", "/")
    if member.isdir():
        _make_folder(path, member, root)
        return
    above, name = posixpath.split(path)
    if not name or not (member.isreg() or member.issym() or member.islnk()):
        return
    with opened(make_folders(root, above)) as parent:
        _make_way(name, parent)
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
        elif member.islnk():
            _make_link(member.linkname, name, parent, root)
        else:
            _make_file(tar, member, name, parent)


def _make_folder(path: str, member: tarfile.TarInfo, root: int) -> None:
    with opened(make_folders(root, path)) as folder:
        # Whoever unpacks must be able to fill it, and to remove it some day.
        Path(f"/proc/self/fd/{folder}").chmod(member.mode & _MODE | stat.S_IRWXU)


def _make_way(name: str, parent: int) -> None:
    """Remove an earlier member of the same name: the last one counts."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        shutil.rmtree(name, dir_fd=parent)


def _make_link(source: str, name: str, parent: int, root: int) -> None:
    with opened(open_inside(root, f"/{source}", os.O_PATH | os.O_NOFOLLOW)) as target:
        if stat.S_ISLNK(os.fstat(target).st_mode):
            os.symlink(os.readlink("", dir_fd=target), name, dir_fd=parent)
        else:
            os.link(f"/proc/self/fd/{target}", name, dst_dir_fd=parent, follow_symlinks=True)


def _make_file(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, parent: int) -> None:
    content = tar.extractfile(member)
    if content is None:
        raise tarfile.ReadError(f"the member {member.name!r} has no content")
    with content, os.fdopen(os.open(name, _NEW_FILE, 0o600, dir_fd=parent), "wb") as file:
        shutil.copyfileobj(content, file, _CHUNK)
        os.fchmod(file.fileno(), member.mode & _MODE | stat.S_IRUSR)
        file.flush()
        os.utime(file.fileno(), (member.mtime, member.mtime))
