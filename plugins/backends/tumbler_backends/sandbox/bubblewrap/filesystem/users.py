"""Who runs commands inside: the default user, root, or somebody whom an image knows."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.posix.opening import open_inside, opened

__all__ = ["DEFAULT_USER", "User", "find_user"]

_MAX_ID: Final = 2**32 - 2
_MAX_BYTES: Final = 1 << 20
_FIELDS: Final = 7


@dataclass(frozen=True, kw_only=True)
class User:
    """An identity inside; on the host it is the owner of the backend, without any capability."""

    name: str
    uid: int
    gid: int
    home: str


DEFAULT_USER: Final = User(name="sandbox", uid=1000, gid=1000, home="/home/sandbox")
_ROOT: Final = User(name="root", uid=0, gid=0, home="/root")


def find_user(asked: str | None, roots: tuple[Path, ...]) -> User:
    """Return the user that a spec asks for.

    Args:
        asked: a name or a number; None is the default.
        roots: folders in which /etc/passwd is looked for, the first that has one counts.

    Raises `CapabilityError` for a name that nobody has.
    """
    if asked is None or asked == DEFAULT_USER.name:
        return DEFAULT_USER
    users = [user for user in map(_user, _passwd(roots)) if user is not None]
    for user in users:
        if asked in {user.name, str(user.uid)}:
            return user
    if asked in {"root", "0"}:
        return _ROOT
    if asked.isdecimal() and int(asked) <= _MAX_ID:
        return User(name=asked, uid=int(asked), gid=int(asked), home="/tmp")
    known = ", ".join(user.name for user in users[:10])
    raise CapabilityError(f"user {asked!r} is not in /etc/passwd{f', which has {known}' if known else ''}")


def _user(line: str) -> User | None:
    fields = line.split(":")
    if len(fields) != _FIELDS or not fields[2].isdecimal() or not fields[3].isdecimal():
        return None
    home = fields[5] if fields[5].startswith("/") and fields[5] != "/" else "/tmp"
    return User(name=fields[0], uid=int(fields[2]), gid=int(fields[3]), home=home)


def _passwd(roots: tuple[Path, ...]) -> list[str]:
    for folder in roots:
        try:
            with (
                opened(os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as root,
                opened(open_inside(root, "/etc/passwd", os.O_RDONLY | os.O_NONBLOCK)) as file,
            ):
                return os.read(file, _MAX_BYTES).decode(errors="replace").splitlines()
        except OSError:
            continue
    return []
