"""How a sandbox sees its file system, and the bwrap arguments for that; starts nothing."""

import posixpath
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.bubblewrap.filesystem.mounting import Bind
from tumbler_backends.sandbox.bubblewrap.filesystem.users import DEFAULT_USER, User

__all__ = ["CONTROL_FOLDER", "ETC_FILES", "Layout", "environment_arguments", "make_etc", "namespace_arguments"]

CONTROL_FOLDER: Final = "/run/tumbler"
"""Where a sandbox sees its commands' pipes, read-only."""

_RESERVED: Final = ("proc", "dev", "run", "sys")
_HOST_FOLDERS: Final = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ALTERNATIVES: Final = Path("/etc/alternatives")
_MASKED: Final = tuple(
    f"/proc/{name}"
    for name in (
        *("kcore", "keys", "key-users", "timer_list"),
        # Readable to the host's root alone, which the sandbox's user may be on the host.
        *("kpagecount", "kpageflags", "kpagecgroup", "slabinfo", "vmallocinfo", "kmsg"),
    )
)
_ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
_ETC: Final = {
    "passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        f"sandbox:x:{DEFAULT_USER.uid}:{DEFAULT_USER.gid}::{DEFAULT_USER.home}:/bin/bash\n"
    ),
    "group": f"root:x:0:\nsandbox:x:{DEFAULT_USER.gid}:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    # Where a network policy allows names, questions to any server are answered by the gateway.
    "resolv.conf": "nameserver 198.18.0.1\noptions timeout:5 attempts:1\n",
}
ETC_FILES: Final = {f"/etc/{name}": _ETC[name] for name in ("hosts", "resolv.conf")}
"""What replaces an image's own files: they tell of where it was made."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One sandbox's folders on the host, and what it sees of them."""

    folder: Path
    workdir: str
    writable: tuple[str, ...]
    """Absolute paths inside which the sandbox may write, no one below another."""
    has_image: bool = False
    user: User = DEFAULT_USER

    @classmethod
    def of(cls, folder: Path, spec: SandboxSpec, user: User = DEFAULT_USER) -> "Layout":
        """Plan the sandbox; raise `CapabilityError` for a working directory that cannot be had."""
        workdir = posixpath.normpath(spec.workdir)
        has_image = spec.image is not None
        top = workdir.split("/")[1] if workdir.startswith("/") else ""
        taken = _RESERVED if has_image else (*_RESERVED, *_HOST_FOLDERS, "etc")
        if not top or top in taken:
            raise CapabilityError(
                f"workdir {spec.workdir!r} cannot be used: give an absolute path outside of the system's folders, "
                "such as /work"
            )
        if has_image:
            writable: tuple[str, ...] = ("/",)
        else:
            places = {workdir: None, "/tmp": None, user.home: None}
            writable = tuple(place for place in places if not any(place.startswith(f"{other}/") for other in places))
        return cls(folder=folder, workdir=workdir, writable=writable, has_image=has_image, user=user)

    @property
    def root(self) -> Path:
        """Return the host's side of the root: a mirror of the writable folders, or where an image is mounted."""
        return self.folder / "root"

    @property
    def control(self) -> Path:
        """Return the host's side of `CONTROL_FOLDER`."""
        return self.folder / "control"

    @property
    def layer(self) -> Path:
        """Return the folder of an image sandbox's changes."""
        return self.folder / "layer"

    @property
    def places(self) -> tuple[str, ...]:
        """Return the folders that are there from the start."""
        return (self.workdir, "/tmp", self.user.home)

    @property
    def reserved(self) -> tuple[str, ...]:
        """Return the folders of an image in which commands see something else."""
        return tuple(f"/{name}" for name in _RESERVED) if self.has_image else ()

    def make(self) -> None:
        """Make the folders that the sandbox does not see itself."""
        self.folder.mkdir(mode=0o700)
        self.control.mkdir()
        self.root.mkdir()

    def make_places(self) -> None:
        """Make what is there from the start, where the root is a plain folder."""
        for place in self.places:
            self.inside(place).mkdir(parents=True, exist_ok=True)

    def inside(self, path: str) -> Path:
        """Return the host's path of an absolute path inside."""
        return self.root / path.lstrip("/")

    def arguments(self, etc: Path, shared_memory_bytes: int, binds: Sequence[Bind] = ()) -> list[str]:
        """Return bwrap's options for the file system; `binds` lie where the sandbox cannot move anything."""
        arguments = ["--bind", str(self.root), "/"] if self.has_image else _system_arguments(etc)
        arguments += ["--proc", "/proc", *_mask_arguments(), "--remount-ro", "/proc", "--dev", "/dev"]
        arguments += ["--size", str(shared_memory_bytes), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
        for place in () if self.has_image else self.writable:
            arguments += ["--bind", str(self.inside(place)), place]
        for bind in binds:
            arguments += ["--bind" if bind.writable else "--ro-bind", bind.source, bind.target]
        if self.has_image:
            arguments += ["--tmpfs", "/run"]
        arguments += ["--ro-bind", str(self.control), CONTROL_FOLDER]
        return [*arguments, "--remount-ro", "/run" if self.has_image else "/", "--chdir", self.workdir]


def namespace_arguments(environment: Mapping[str, str], user: User = DEFAULT_USER) -> list[str]:
    """Return bwrap's options for namespaces, privileges and the environment; the network is its parent's."""
    arguments = [f"--unshare-{kind}" for kind in ("user", "pid", "ipc", "uts", "cgroup")]
    arguments += ["--uid", str(user.uid), "--gid", str(user.gid), "--hostname", "sandbox", "--cap-drop", "ALL"]
    arguments += ["--die-with-parent", "--new-session", "--clearenv"]
    return arguments + environment_arguments({**_ENVIRONMENT, "HOME": user.home, "USER": user.name, **environment})


def environment_arguments(environment: Mapping[str, str]) -> list[str]:
    """Return bwrap's options that set variables; raise `ValueError` for names and values no process can have."""
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise ValueError(f"the environment variable {name!r} has a name or a value that no process can have")
    return [word for name, value in environment.items() for word in ("--setenv", name, value)]


def make_etc(folder: Path) -> None:
    """Make an /etc that holds nothing of the host but the linker's cache."""
    folder.mkdir()
    for name, content in _ETC.items():
        (folder / name).write_text(content)
    cache = Path("/etc/ld.so.cache")
    if cache.is_file():
        shutil.copyfile(cache, folder / cache.name)
    (folder / _ALTERNATIVES.name).mkdir()


def _system_arguments(etc: Path) -> list[str]:
    arguments: list[str] = []
    for name in _HOST_FOLDERS:
        arguments += _show(Path("/", name), f"/{name}") if Path("/", name).exists() else []
    arguments += ["--ro-bind", str(etc), "/etc"]
    return [*arguments, *(_show(_ALTERNATIVES, str(_ALTERNATIVES)) if _ALTERNATIVES.is_dir() else [])]


def _show(source: Path, path: str) -> list[str]:
    if source.is_symlink():
        return ["--symlink", str(source.readlink()), path]
    return ["--ro-bind", str(source), path]


def _mask_arguments() -> list[str]:
    return [word for path in _MASKED if Path(path).exists() for word in ("--ro-bind", "/dev/null", path)]
