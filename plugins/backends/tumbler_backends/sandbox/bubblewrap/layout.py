"""How a sandbox sees its file system, and the bwrap arguments for that; starts nothing."""

import posixpath
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.errors import CapabilityError

__all__ = ["CONTROL_FOLDER", "GROUP", "HOME", "USER", "Layout", "make_etc", "namespace_arguments"]

USER: Final = 1000
GROUP: Final = 1000
HOME: Final = "/home/sandbox"
CONTROL_FOLDER: Final = "/run/tumbler"
"""Where a sandbox sees its commands' pipes, read-only."""

_RESERVED: Final = ("proc", "dev", "run", "sys")
_HOST_FOLDERS: Final = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ALTERNATIVES: Final = Path("/etc/alternatives")
_MASKED: Final = ("/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/timer_list")
_ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": HOME,
    "LANG": "C.UTF-8",
    "USER": "sandbox",
}
_ETC: Final = {
    "passwd": f"root:x:0:0:root:/root:/bin/sh\nsandbox:x:{USER}:{GROUP}::{HOME}:/bin/bash\n",
    "group": f"root:x:0:\nsandbox:x:{GROUP}:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One sandbox's folders on the host, and what it sees of them."""

    folder: Path
    workdir: str
    writable: tuple[str, ...]
    """Absolute paths inside which the sandbox may write, no one below another."""

    @classmethod
    def of(cls, folder: Path, spec: SandboxSpec) -> "Layout":
        """Plan the sandbox; raise `CapabilityError` for a working directory that cannot be had."""
        workdir = posixpath.normpath(spec.workdir)
        top = workdir.split("/")[1] if workdir.startswith("/") else ""
        if not top or top in {*_RESERVED, *_HOST_FOLDERS, "etc"}:
            raise CapabilityError(
                f"workdir {spec.workdir!r} cannot be used: give an absolute path outside of the system's folders, "
                "such as /work"
            )
        covered = any(workdir == place or workdir.startswith(f"{place}/") for place in ("/tmp", HOME))
        return cls(folder=folder, workdir=workdir, writable=("/tmp", HOME) if covered else (workdir, "/tmp", HOME))

    @property
    def root(self) -> Path:
        """Return the host's mirror of the sandbox's writable folders."""
        return self.folder / "root"

    @property
    def control(self) -> Path:
        """Return the host's side of `CONTROL_FOLDER`."""
        return self.folder / "control"

    def make(self) -> None:
        """Make all folders."""
        self.folder.mkdir(mode=0o700)
        for folder in (self.control, *(self.inside(place) for place in (*self.writable, self.workdir))):
            folder.mkdir(parents=True, exist_ok=True)

    def inside(self, path: str) -> Path:
        """Return the host's path of an absolute path inside."""
        return self.root / path.lstrip("/")

    def arguments(self, image: Path | None, etc: Path, shared_memory_bytes: int) -> list[str]:
        """Return bwrap's options for the file system."""
        mount_points = (*self.writable, CONTROL_FOLDER, *(f"/{name}" for name in _RESERVED))
        arguments = _system_arguments(etc) if image is None else _image_arguments(image, "/", mount_points)
        arguments += ["--proc", "/proc", *_mask_arguments(), "--remount-ro", "/proc", "--dev", "/dev"]
        arguments += ["--size", str(shared_memory_bytes), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
        for place in self.writable:
            arguments += ["--bind", str(self.inside(place)), place]
        return [
            *arguments,
            "--ro-bind",
            str(self.control),
            CONTROL_FOLDER,
            "--remount-ro",
            "/",
            "--chdir",
            self.workdir,
        ]


def namespace_arguments(environment: Mapping[str, str]) -> list[str]:
    """Return bwrap's options for namespaces, privileges and the environment."""
    arguments = [f"--unshare-{kind}" for kind in ("user", "pid", "ipc", "uts", "net", "cgroup")]
    arguments += ["--uid", str(USER), "--gid", str(GROUP), "--hostname", "sandbox", "--cap-drop", "ALL"]
    arguments += ["--die-with-parent", "--new-session", "--clearenv"]
    return arguments + environment_arguments({**_ENVIRONMENT, **environment})


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


def _image_arguments(folder: Path, place: str, mount_points: Sequence[str]) -> list[str]:
    """Show an image's folder entry by entry, so that mount points can lie between them."""
    arguments: list[str] = []
    for entry in sorted(folder.iterdir()):
        path = posixpath.join(place, entry.name)
        if path in mount_points:
            continue
        if _leads_to(path, mount_points) and not entry.is_symlink():
            arguments += ["--dir", path, *_image_arguments(entry, path, mount_points)]
        else:
            arguments += _show(entry, path)
    return arguments


def _leads_to(path: str, mount_points: Iterable[str]) -> bool:
    return any(point.startswith(f"{path}/") for point in mount_points)


def _show(source: Path, path: str) -> list[str]:
    if source.is_symlink():
        return ["--symlink", str(source.readlink()), path]
    return ["--ro-bind", str(source), path]


def _mask_arguments() -> list[str]:
    return [word for path in _MASKED if Path(path).exists() for word in ("--ro-bind", "/dev/null", path)]
