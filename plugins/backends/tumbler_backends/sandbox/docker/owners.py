"""Who made which container: labels that tell whether the owner still lives, and locks for owners with a name."""

import contextlib
import fcntl
import json
import os
import secrets
import socket
import stat
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.errors import SandboxUnavailable

__all__ = [
    "LABEL",
    "Owner",
    "Record",
    "claim",
    "default_root",
    "is_abandoned",
    "is_held",
    "label_filter",
    "record_of",
    "sandbox_labels",
]

LABEL: Final = "tumbler.sandbox"
"""The label that every container has; its value is the owner's name. The others begin with it."""
_RECORD: Final = "record.json"
_SPEC: Final = TypeAdapter(SandboxSpec)


@dataclass(frozen=True, kw_only=True)
class Owner:
    """This process as the owner of containers."""

    name: str
    named: bool
    """Whether the next process of that name takes the containers over."""
    folder: Path
    lock: int
    """A descriptor that holds the lock for as long as this process lives."""

    def labels(self) -> dict[str, str]:
        """Return what tells others whether this owner lives."""
        return {
            LABEL: self.name,
            f"{LABEL}.named": "yes" if self.named else "",
            f"{LABEL}.host": _host(),
            f"{LABEL}.boot": _boot(),
            f"{LABEL}.pid": str(os.getpid()),
            f"{LABEL}.started": str(_start_time(os.getpid())),
            f"{LABEL}.namespace": _pid_namespace(),
        }

    def release(self) -> None:
        """Let others have the name."""
        os.close(self.lock)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of a sandbox without its container."""

    id: str
    owner: str
    container: str
    spec: SandboxSpec
    created: float
    expires: float
    image: str
    """The image as people name it, or its id where it has no name."""
    labels: Mapping[str, str]
    """All labels of the container."""
    owner_labels: Mapping[str, str]
    """Those that tell who has it now: whoever made it, unless another process has taken it over."""
    running: bool = True
    paused: bool = False

    @property
    def maker(self) -> str:
        """Return the name of the owner that made it."""
        return self.labels[LABEL]

    def save(self, root: Path) -> None:
        """Write down what the container's labels cannot tell, because it changes: the time, and the owner."""
        folder = root / self.maker / self.id
        temporary = folder / f"{_RECORD}.new"
        written = {"expires": self.expires, "owner": self.owner, "labels": dict(self.owner_labels)}
        temporary.write_text(json.dumps(written))
        temporary.rename(folder / _RECORD)

    def load(self, root: Path) -> "Record":
        """Return it with what was written down."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            written = json.loads((root / self.maker / self.id / _RECORD).read_text())
            return replace(
                self, expires=float(written["expires"]), owner=written["owner"], owner_labels=written["labels"]
            )
        return self


def sandbox_labels(
    identity: str, spec: SandboxSpec, created: float, image: str, image_name: str | None = None
) -> dict[str, str]:
    """Return the labels that describe one sandbox: with them another process can take it over."""
    described = _SPEC.dump_json(spec, exclude={"files"}).decode()
    return {
        f"{LABEL}.id": identity,
        f"{LABEL}.spec": described,
        f"{LABEL}.created": str(created),
        f"{LABEL}.expires": str(created + spec.ttl),
        f"{LABEL}.image": image,
        **({f"{LABEL}.image-name": image_name} if image_name is not None else {}),
        **({f"{LABEL}.name": spec.name} if spec.name is not None else {}),
        **{f"tumbler.label.{name}": value for name, value in spec.labels.items()},
    }


def label_filter(owner: str | None = None) -> dict[str, list[str]]:
    """Return the engine's filter for the containers of one owner, or of all."""
    return {"label": [LABEL if owner is None else f"{LABEL}={owner}"]}


def record_of(described: Mapping[str, object]) -> Record | None:
    """Return the record of a container as the engine's list describes it; None for what is no sandbox."""
    labels = described.get("Labels")
    if not isinstance(labels, dict) or f"{LABEL}.spec" not in labels:
        return None
    try:
        return Record(
            id=labels[f"{LABEL}.id"],
            owner=labels[LABEL],
            container=str(described["Id"]),
            spec=_SPEC.validate_json(labels[f"{LABEL}.spec"]),
            created=float(labels[f"{LABEL}.created"]),
            expires=float(labels[f"{LABEL}.expires"]),
            image=labels[f"{LABEL}.image-name" if f"{LABEL}.image-name" in labels else f"{LABEL}.image"],
            labels=labels,
            owner_labels=labels,
            running=described.get("State") in {"running", "paused"},
            paused=described.get("State") == "paused",
        )
    except (KeyError, ValueError):  # of another version
        return None


def is_abandoned(record: Record, root: Path) -> bool:
    """Tell whether the owner of a record, as `Record.load` returned it, is surely gone and nobody may take it over."""
    labels = record.owner_labels
    expired = time.time() > record.expires
    if labels.get(f"{LABEL}.host") != _host():
        return expired
    if labels.get(f"{LABEL}.named"):
        return expired and not is_held(root / record.owner)
    if labels.get(f"{LABEL}.boot") != _boot():
        return True
    if labels.get(f"{LABEL}.namespace") != _pid_namespace():
        return expired
    return str(_start_time(int(labels.get(f"{LABEL}.pid", "0")))) != labels.get(f"{LABEL}.started")


def default_root() -> Path:
    """Return the folder of this user's records."""
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"tumbler-{os.getuid()}" / "docker"


def claim(root: Path, name: str | None) -> Owner:
    """Become an owner; raise `SandboxUnavailable` where the folder cannot be used, or the name is in use."""
    chosen = name or f"{os.getpid()}-{secrets.token_hex(4)}"
    folder = root / chosen
    try:
        _make_private(root)
        folder.mkdir(mode=0o711, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SandboxUnavailable(
            f"the folder {root} cannot be used: {error}; set `root` of the docker backend to a folder of your own"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise SandboxUnavailable(
            f"another process owns sandboxes as {chosen!r}: end it, or use another name"
        ) from error
    return Owner(name=chosen, named=name is not None, folder=folder, lock=lock)


def is_held(folder: Path) -> bool:
    """Tell whether a living process has a name."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _make_private(root: Path) -> None:
    # Commands' users open pipes below, and list nothing.
    root.mkdir(mode=0o711, parents=True, exist_ok=True)
    # The shared temporary folder is anybody's: a folder made there by another user is a trap.
    for folder in (root, root.parent) if root == default_root() else (root,):
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise PermissionError(f"{folder} is not a folder of user {os.getuid()}")
        if status.st_mode & 0o022:
            raise PermissionError(f"{folder} can be written by others")


def _host() -> str:
    with contextlib.suppress(OSError):
        return Path("/etc/machine-id").read_text().strip() or socket.gethostname()
    return socket.gethostname()


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _start_time(pid: int) -> int:
    """Return when a process began, in clock ticks since boot; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in {"Z", "X"} else int(fields[19])
