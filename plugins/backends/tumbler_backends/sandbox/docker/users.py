"""Who commands run as: numbers for the names of an image."""

import contextlib
import os
import re
import stat
from collections.abc import Callable
from typing import Final

from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.posix.opening import open_inside, opened

__all__ = ["User", "find_user", "reader_of"]

_NUMBERS: Final = re.compile(r"^(\d+)(?::(\d+))?$")
_LIMIT: Final = 1 << 20

User = tuple[int, int, str, str]
"""User number, group number, name and home folder."""


def find_user(asked: str, read: Callable[[str], str], home: str) -> User:
    """Return the user `asked` for by name, number or `number:number`; raise `CapabilityError` where there is none.

    Args:
        asked: as in `SandboxSpec.user`.
        read: returns a file of the image; empty where it is missing.
        home: the home folder of those whom the image does not know.
    """
    numbers = _NUMBERS.match(asked)
    for line in read("/etc/passwd").splitlines():
        fields = line.split(":")
        if len(fields) == 7 and (fields[0] == asked or (numbers and fields[2] == numbers[1])):
            group = numbers[2] if numbers and numbers[2] else fields[3]
            return int(fields[2]), int(group), fields[0], fields[5] or home
    if numbers:
        return int(numbers[1]), int(numbers[2] or numbers[1]), "sandbox", home
    if asked == "root":
        return 0, 0, "root", "/root"
    raise CapabilityError(f"user {asked!r} is not in the image's /etc/passwd: use one that is, or a number")


def reader_of(root: int) -> Callable[[str], str]:
    """Return a function that reads small files below an open folder, for `find_user`."""

    def read(path: str) -> str:
        with contextlib.suppress(OSError), opened(open_inside(root, path, os.O_PATH)) as entry:
            if stat.S_ISREG(os.fstat(entry).st_mode):
                with open(f"/proc/self/fd/{entry}", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                    return file.read(_LIMIT)
        return ""

    return read
