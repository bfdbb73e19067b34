"""Who owns which folder of sandboxes, and taking over or removing those of dead owners; starts no sandbox."""

import contextlib
import fcntl
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from tumbler.errors import SandboxUnavailable
from tumbler_backends.sandbox.bubblewrap.ownership.removal import remove_tree
from tumbler_backends.sandbox.posix.opening import opened

__all__ = ["REAPED", "Owner", "OwnerRecord", "claim", "default_root", "locked", "new_owner_name", "read_owner"]

REAPED: Final = ".reaped-"
"""How the names of folders begin that somebody is removing."""
_MEMORY: Final = "/dev/shm"
_RECORD: Final = "owner.json"
_CLAIMED: Final = ".claimed-"


@dataclass(frozen=True, kw_only=True)
class OwnerRecord:
    """What tells whether an owner still lives, even after its pid was given to another process."""

    pid: int
    start_time: int
    """Clock ticks since boot."""
    boot_id: str
    pid_namespace: str
    cgroups: tuple[str, ...] = ()
    """The cgroup folders that go with the owner."""
    named: bool = False
    """Whether another process may come under the same name and take over."""
    left: bool = False
    """Whether the owner has let go of the name, though its process may live on."""

    @classmethod
    def of_this_process(cls, cgroups: Iterable[Path], *, named: bool = False) -> "OwnerRecord":
        """Describe this process."""
        return cls(
            pid=os.getpid(),
            start_time=_start_time(os.getpid()) or 0,
            boot_id=_boot_id(),
            pid_namespace=_pid_namespace(),
            cgroups=tuple(str(folder) for folder in cgroups),
            named=named,
        )

    def is_dead(self) -> bool:
        """Tell whether the owner is surely gone; one in another pid namespace cannot be judged."""
        if self.left or self.boot_id != _boot_id():
            return True
        return self.pid_namespace == _pid_namespace() and _start_time(self.pid) != self.start_time

    def save(self, folder: Path) -> None:
        """Write it into the owner's folder in one step."""
        temporary = folder / f".{_RECORD}"
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(folder / _RECORD)

    @staticmethod
    def remove(folder: Path) -> None:
        """Take the record out of a folder, which is nobody's then."""
        (folder / _RECORD).unlink()


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A claimed folder: all sandboxes of one backend instance lie in it."""

    name: str
    folder: Path
    predecessor: OwnerRecord | None = None
    """The dead owner of the same name whose sandboxes are here."""

    def release(self) -> None:
        """Remove the folder and all in it."""
        remove_tree(self.folder)

    def leave(self) -> None:
        """Let the next process of this name have the folder and all in it from now on."""
        with locked(self.folder):
            record = read_owner(self.folder)
            if record is not None:
                replace(record, left=True).save(self.folder)


def default_root(*, in_memory: bool = False) -> Path:
    """Return the folder of this user's sandboxes; one in memory only where the machine has a place for it."""
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    if in_memory and os.access(_MEMORY, os.W_OK | os.X_OK):
        base = _MEMORY
    return Path(base) / f"tumbler-{os.getuid()}" / "sandboxes"


def claim(root: Path, name: str, cgroups: Sequence[Path], *, named: bool = False) -> Owner:
    """Make the owner's folder together with its record, or take over the one of a dead owner of this name.

    Raises `SandboxUnavailable` where the folder cannot be made, belongs to another user, or has a
    living owner.
    """
    record = OwnerRecord.of_this_process(cgroups, named=named)
    try:
        _make_private(root)
        if named and (root / name).is_dir():
            return _take_over(root / name, record)
        fresh = root / f"{_CLAIMED}{name}-{secrets.token_hex(4)}"
        fresh.mkdir(mode=0o700)
        record.save(fresh)
        return Owner(name=name, folder=fresh.rename(root / name))
    except OSError as error:
        raise SandboxUnavailable(
            f"the sandbox folder {root} cannot be used: {error}; "
            "set `root` of the bubblewrap backend to a folder of your own"
        ) from error


def new_owner_name() -> str:
    """Return a name for an owner of this process."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others from taking over or reaping an owner's folder meanwhile."""
    with opened(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def read_owner(folder: Path) -> OwnerRecord | None:
    """Return the record of an owner's folder; None where it is none, or of another version."""
    try:
        content = json.loads((folder / _RECORD).read_text())
        return OwnerRecord(**{**content, "cgroups": tuple(content["cgroups"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _take_over(folder: Path, record: OwnerRecord) -> Owner:
    with locked(folder):
        before = read_owner(folder)
        if before is not None and not before.is_dead():
            raise SandboxUnavailable(
                f"the owner {folder.name!r} lives: process {before.pid} has its sandboxes in {folder}; "
                "stop it, or give this one another `owner`"
            )
        record.save(folder)
    return Owner(name=folder.name, folder=folder, predecessor=before)


def _make_private(root: Path) -> None:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The shared temporary folder is anybody's: a folder made there by another user is a trap.
    for folder in (root, root.parent) if root == default_root() else (root,):
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise PermissionError(f"{folder} is not a folder of user {os.getuid()}")
        if status.st_mode & 0o022:
            raise PermissionError(f"{folder} can be written by others")


def _start_time(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = status.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())
