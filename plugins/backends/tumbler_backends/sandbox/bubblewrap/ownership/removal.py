"""Remove folders that untrusted code filled; knows nothing of what they were."""

import contextlib
import errno
import itertools
import os
import secrets
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tumbler_backends.sandbox.posix.opening import opened

__all__ = ["remove_below", "remove_tree"]

_DEPTH: Final = 16
"""Each level holds a descriptor of this process; what lies deeper is moved up first."""
_AT_ONCE: Final = 1000
"""Names that are in memory for each level."""
_REMOVAL_S: Final = 300.0
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(folder: Path) -> None:
    """Remove a folder that untrusted code filled: unreadable, deep, huge, or with links out of it.

    Links are never followed. Raises `OSError` where something could not be removed.
    """
    with contextlib.suppress(OSError), opened(os.open(folder.parent, _FOLDER & ~os.O_NOFOLLOW)) as parent:
        remove_below(folder.name, parent)
    if not folder.exists():
        return
    # Folders without permissions stop any walk; coreutils follow no links here.
    for command in (["chmod", "-R", "u+rwX", "--"], ["rm", "-rf", "--"]):
        if shutil.which(command[0]) is not None:
            subprocess.run([*command, str(folder)], check=False, capture_output=True)
    if folder.exists():
        raise OSError(f"the sandbox folder {folder} could not be removed completely")


def remove_below(name: str, parent: int) -> None:
    """Remove the folder `name` of an open folder with all in it, in bounded memory and with few descriptors.

    No link is followed, also none that appears meanwhile. Raises `OSError`, and `TimeoutError` where somebody goes
    on to fill the folder.
    """
    with opened(os.open(name, _FOLDER, dir_fd=parent)) as top:
        _empty(top, _Top(folder=top, deadline=time.monotonic() + _REMOVAL_S), 0)
    os.rmdir(name, dir_fd=parent)


@dataclass(frozen=True, kw_only=True)
class _Top:
    """The folder that is being removed."""

    folder: int
    deadline: float


def _empty(folder: int, top: _Top, depth: int) -> None:
    while names := _some_names(folder):
        if time.monotonic() > top.deadline:
            raise TimeoutError(errno.ETIMEDOUT, f"the folder could not be emptied within {_REMOVAL_S:g} s")
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                _remove_one(name, folder, top, depth)


def _remove_one(name: str, folder: int, top: _Top, depth: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
        return
    except IsADirectoryError:
        pass
    except PermissionError as error:  # what some file systems say of folders
        if error.errno != errno.EPERM:
            raise
    if depth >= _DEPTH and _moved_up(name, folder, top.folder):
        return
    with opened(os.open(name, _FOLDER, dir_fd=folder)) as below:
        _empty(below, top, depth + 1)
    os.rmdir(name, dir_fd=folder)


def _moved_up(name: str, folder: int, top: int) -> bool:
    try:
        os.rename(name, f".deep-{secrets.token_hex(8)}", src_dir_fd=folder, dst_dir_fd=top)
    except OSError as error:
        if error.errno != errno.EXDEV:  # an overlay may not be able to move what its lower layer has
            raise
        return False
    return True


def _some_names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in itertools.islice(entries, _AT_ONCE)]
