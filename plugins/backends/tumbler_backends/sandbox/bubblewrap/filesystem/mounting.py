"""Put a sandbox's root file system together in the mount namespace that this code runs in.

Nothing is mounted for the host to see: the namespace is private, and gone with its last process
and descriptor. Runs in a thread of a root owner, or as a program in a user namespace.
"""

import contextlib
import ctypes
import json
import os
import shutil
import stat
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tumbler_backends.sandbox.bubblewrap.filesystem.copying import copy_tree
from tumbler_backends.sandbox.posix.opening import make_folders, open_inside, opened

__all__ = ["Bind", "MountPlan", "assemble", "main", "make_places", "seal_devices"]

_MS_RDONLY: Final = 1
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MS_REMOUNT: Final = 32
_MS_BIND: Final = 4096
_MS_NOEXEC: Final = 8
_SAFE: Final = _MS_NOSUID | _MS_NODEV
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
"""What bwrap takes from the host's /dev."""
_BYTES_PER_INODE: Final = 4096
_MINIMUM_INODES: Final = 1024


@dataclass(frozen=True, kw_only=True)
class Bind:
    """A folder or file of the host to show inside."""

    source: str
    target: str
    """Absolute, inside."""
    writable: bool = False


@dataclass(frozen=True, kw_only=True)
class MountPlan:
    """How to make one root; all paths but the inner ones are the host's."""

    root: str
    """Where the root comes to lie; a folder that is there."""
    tmpfs: str | None = None
    """Where a sized memory file system comes to lie."""
    tmpfs_bytes: int = 0
    lower: str | None = None
    """The read-only layer of an overlay on `root`."""
    upper: str = ""
    work: str = ""
    by_user: bool = False
    """Whether a user namespace mounts it, with the overlay's marks in `user.` attributes."""
    seed: str | None = None
    """A folder to copy into a new `tmpfs` first, as what its sandbox starts with."""
    mount_points: tuple[str, ...] = ()
    """Inner folders where bwrap mounts, made where they are missing; a link in their place is refused."""
    places: tuple[str, ...] = ()
    """Inner folders that are made where they are missing."""
    texts: tuple[tuple[str, str], ...] = ()
    """Inner files, and what they say where the layer of changes has none yet."""
    binds: tuple[Bind, ...] = ()
    staging: str = ""
    """A folder that no sandbox sees, in which the targets of `staged` lie."""
    staged: tuple[Bind, ...] = ()
    """What bwrap itself shows, put where nobody can exchange it: bwrap follows the links of a path."""

    @classmethod
    def of(cls, text: str) -> "MountPlan":
        """Read a plan that `text` made."""
        content = json.loads(text)
        for name in ("binds", "staged"):
            content[name] = tuple(Bind(**bind) for bind in content[name])
        content["texts"] = tuple((path, said) for path, said in content["texts"])
        for name in ("mount_points", "places"):
            content[name] = tuple(content[name])
        return cls(**content)

    def text(self) -> str:
        """Return the plan as JSON."""
        return json.dumps(asdict(self))


def assemble(plan: MountPlan) -> tuple[int, int]:
    """Mount all of `plan`; return descriptors of the root and of the layer that takes changes.

    The caller closes both. Raises `OSError` that names what could not be mounted, and
    `NotADirectoryError` or `ELOOP` where the sandbox's files stand in the way of a mount point.
    """
    if not plan.by_user:
        seal_devices()
    if plan.tmpfs is not None:
        _mount_memory(plan, plan.tmpfs)
    if plan.lower is not None:
        _mount_overlay(plan, plan.lower)
    root = os.open(plan.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in plan.mount_points:
            os.close(_require_folder(root, folder))
        make_places(plan, root)
        for bind in plan.binds:
            _bind(root, bind)
        if plan.staged:
            with opened(os.open(plan.staging, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as staging:
                for bind in plan.staged:
                    _bind(staging, bind)
        return root, os.open(plan.upper or plan.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except BaseException:
        os.close(root)
        raise


def seal_devices() -> None:
    """Show the devices that sandboxes get read-only in this mount namespace: what bwrap makes of them stays so.

    They can be read and written all the same, but a sandbox that is root on the host owns them, and could change
    their permissions for everybody.
    """
    for name in _DEVICES:
        if (device := Path("/dev", name)).exists():
            _mount(str(device), str(device), None, _MS_BIND, None)
            _mount("none", str(device), None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NOEXEC, None)


def make_places(plan: MountPlan, root: int) -> None:
    """Make the plan's inner folders that are missing."""
    for place in plan.places:
        os.close(make_folders(root, place))


def main() -> None:
    """Assemble the plan in the first argument, say so, and stay until stdin ends."""
    root, layer = assemble(MountPlan.of(sys.argv[1]))
    os.write(sys.stdout.fileno(), b"ready\n")
    os.read(sys.stdin.fileno(), 1)
    os.close(root)
    os.close(layer)


def _mount_memory(plan: MountPlan, place: str) -> None:
    Path(place).mkdir(exist_ok=True)
    # Empty files take kernel memory too.
    inodes = max(_MINIMUM_INODES, (plan.tmpfs_bytes or 0) // _BYTES_PER_INODE)
    _mount("tmpfs", place, "tmpfs", _SAFE, f"size={plan.tmpfs_bytes},nr_inodes={inodes},mode=0700")
    if plan.seed is not None:
        target = Path(plan.upper or plan.root)
        target.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        with opened(os.open(plan.seed, flags)) as seed, opened(os.open(target, flags)) as layer:
            copy_tree(seed, layer)


def _mount_overlay(plan: MountPlan, lower: str) -> None:
    # `volatile` spares a sync of the host's whole disk at each unmount, but refuses a work folder that was used.
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(plan.work)
    for folder in (plan.upper, plan.work):
        Path(folder).mkdir(parents=True, exist_ok=True)
    with opened(os.open(plan.upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as layer:
        for path, said in plan.texts:
            _say(layer, path, said)
    options = [f"lowerdir={_escaped(lower, ':')}", f"upperdir={_escaped(plan.upper)}", f"workdir={_escaped(plan.work)}"]
    options += ["volatile", *(["userxattr"] if plan.by_user else ["redirect_dir=on", "metacopy=off", "index=off"])]
    _mount("overlay", plan.root, "overlay", _SAFE, ",".join(options))


def _say(layer: int, path: str, said: str) -> None:
    """Write a file unless there is something in its place."""
    folder, _, name = path.rpartition("/")
    with opened(make_folders(layer, folder)) as parent, contextlib.suppress(FileExistsError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with opened(os.open(name, flags, 0o644, dir_fd=parent)) as file:
            os.write(file, said.encode())


def _require_folder(root: int, path: str) -> int:
    """Return a descriptor of a mount point: a real folder, for the sandbox could aim a link at the host's tree."""
    os.close(make_folders(root, path))
    return open_inside(root, path, os.O_PATH | os.O_DIRECTORY, links=False)


def _bind(root: int, bind: Bind) -> None:
    # Whoever may write above the source could put a link in its place: none is followed.
    with opened(os.open("/", os.O_PATH | os.O_CLOEXEC)) as top:
        source = open_inside(top, bind.source, os.O_PATH, links=False)
    with opened(source), opened(_target(root, bind.target, os.fstat(source).st_mode)) as target:
        place = f"/proc/self/fd/{target}"
        _mount(f"/proc/self/fd/{source}", place, None, _MS_BIND, None)
        # The descriptor is of what lies below the new mount: open what covers it.
        with opened(open_inside(root, bind.target, os.O_PATH, links=False)) as mounted:
            flags = _SAFE | (0 if bind.writable else _MS_RDONLY)
            _mount("none", f"/proc/self/fd/{mounted}", None, _MS_BIND | _MS_REMOUNT | flags, None)


def _target(root: int, path: str, kind: int) -> int:
    if stat.S_ISDIR(kind):
        return _require_folder(root, path)
    folder, _, name = path.rpartition("/")
    with opened(_require_folder(root, folder or "/")) as parent:
        flags = os.O_CREAT | os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=parent))
    return open_inside(root, path, os.O_PATH, links=False)


def _escaped(path: str, more: str = "") -> str:
    return "".join(f"\\{letter}" if letter in {"\\", ",", *more} else letter for letter in path)


def _mount(source: str, target: str, kind: str | None, flags: int, options: str | None) -> None:
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, options)]
    if _libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mounting {kind or source} failed: {os.strerror(code)}", target)


_libc: Final = ctypes.CDLL(None, use_errno=True)
