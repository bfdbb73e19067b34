"""Who owns which folder of sandboxes, and removing those of dead owners; starts no sandbox."""

import contextlib
import json
import os
import secrets
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tumbler.errors import SandboxUnavailable
from tumbler_backends.sandbox.bubblewrap.cgroups import kill_until_gone

__all__ = ["Owner", "OwnerRecord", "claim", "default_root", "reap", "remove_tree"]

_RECORD: Final = "owner.json"
_REAPED: Final = ".reaped-"
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

    @classmethod
    def of_this_process(cls, cgroups: Iterable[Path]) -> "OwnerRecord":
        """Describe this process."""
        return cls(
            pid=os.getpid(),
            start_time=_start_time(os.getpid()) or 0,
            boot_id=_boot_id(),
            pid_namespace=_pid_namespace(),
            cgroups=tuple(str(folder) for folder in cgroups),
        )

    def is_dead(self) -> bool:
        """Tell whether the owner is surely gone; one in another pid namespace cannot be judged."""
        if self.boot_id != _boot_id():
            return True
        return self.pid_namespace == _pid_namespace() and _start_time(self.pid) != self.start_time


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A claimed folder: all sandboxes of one backend instance lie in it."""

    name: str
    folder: Path

    def release(self) -> None:
        """Remove the folder and all in it."""
        remove_tree(self.folder)


def default_root() -> Path:
    """Return the folder of this user's sandboxes."""
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"tumbler-{os.getuid()}" / "sandboxes"


def claim(root: Path, name: str, cgroups: Sequence[Path]) -> Owner:
    """Make the owner's folder together with its record; nobody sees one without the other.

    Raises `SandboxUnavailable` where the folder cannot be made, or belongs to another user.
    """
    try:
        _make_private(root)
        fresh = root / f"{_CLAIMED}{name}"
        fresh.mkdir(mode=0o700)
        record = OwnerRecord.of_this_process(cgroups)
        (fresh / _RECORD).write_text(json.dumps(asdict(record)))
        return Owner(name=name, folder=fresh.rename(root / name))
    except OSError as error:
        raise SandboxUnavailable(
            f"the sandbox folder {root} cannot be used: {error}; "
            "set `root` of the bubblewrap backend to a folder of your own"
        ) from error


def new_owner_name() -> str:
    """Return a name for an owner of this process."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"


def reap(root: Path) -> int:
    """Kill and remove what dead owners left under `root`; return how many owners that were.

    Several processes may do this at once: whoever renames a folder removes it.
    """
    reaped = 0
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if folder.name.startswith(_REAPED):
            remove_tree(folder)  # another sweep was interrupted, or is at it: both are harmless
            continue
        record = _read_record(folder)
        if record is None or not record.is_dead():
            continue
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            mine = folder.rename(root / f"{_REAPED}{folder.name}-{secrets.token_hex(4)}")
            kill_until_gone(Path(group) for group in record.cgroups)
            remove_tree(mine)
            reaped += 1
    return reaped


def remove_tree(folder: Path) -> None:
    """Remove a folder that untrusted code filled: unreadable, deep, or with links out of it.

    Links are never followed. Raises `OSError` where something could not be removed.
    """
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(folder)
    if not folder.exists():
        return
    # Folders without permissions stop any walk; coreutils follow no links here and know no depth limit.
    for command in (["chmod", "-R", "u+rwX", "--"], ["rm", "-rf", "--"]):
        subprocess.run([*command, str(folder)], check=False, capture_output=True)
    if folder.exists():
        raise OSError(f"the sandbox folder {folder} could not be removed completely")


def _make_private(root: Path) -> None:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The shared temporary folder is anybody's: a folder made there by another user is a trap.
    for folder in (root, root.parent) if root == default_root() else (root,):
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise PermissionError(f"{folder} is not a folder of user {os.getuid()}")
        if status.st_mode & 0o022:
            raise PermissionError(f"{folder} can be written by others")


def _read_record(folder: Path) -> OwnerRecord | None:
    try:
        content = json.loads((folder / _RECORD).read_text())
        return OwnerRecord(**{**content, "cgroups": tuple(content["cgroups"])})
    except (OSError, ValueError, TypeError, KeyError):  # not an owner's folder, or of another version
        return None


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
