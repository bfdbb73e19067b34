"""Make namespaces that no process holds open, and enter them; knows no policy and no sandbox.

A descriptor keeps a namespace alive. As root a thread that ends at once makes it; otherwise a
short-lived `unshare` does, and hands out the user namespace that owns it as well.
"""

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeVar

from tumbler.errors import CapabilityError, SandboxUnavailable

__all__ = ["NamespaceDescriptors", "enter_words", "make_namespaces", "run_in_namespaces"]

Result = TypeVar("Result")

_CLONE_FS: Final = 0x0000_0200
_CLONE_NEWNS: Final = 0x0002_0000
_CLONE_NEWNET: Final = 0x4000_0000
_MS_REC_PRIVATE: Final = 0x4000 | 0x4_0000
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_INTERFACE_FLAGS: Final = struct.Struct("16sh22x")
_HOLDER_S: Final = 20.0
_OPEN: Final = os.O_RDONLY | os.O_CLOEXEC

_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True)
class NamespaceDescriptors:
    """Open descriptors of namespaces, each of which keeps its namespace alive."""

    network: int
    user: int | None = None
    """The user namespace that owns the others, where they were made without root."""
    mount: int | None = None

    def close(self) -> None:
        """Close them; a namespace without processes then ends. Call it once."""
        for descriptor in (self.network, self.user, self.mount):
            if descriptor is not None:
                os.close(descriptor)


def make_namespaces(*, mount: bool = False, prepare: Callable[[], None] | None = None) -> NamespaceDescriptors:
    """Make a network namespace whose only interface is a working `lo`; blocks for about a millisecond as root.

    With `mount` a mount namespace comes with it: a copy of this process's, from which no mount
    spreads. Without root both belong to a new user namespace in which this user is root. `prepare` is called
    inside first, but not without root.

    Raises:
        CapabilityError: this user may make no namespaces, or a program for it is missing.
        SandboxUnavailable: the kernel refused for want of resources; maybe later.
    """
    _require("nsenter")
    try:
        return _in_thread(lambda: _unshare(mount, prepare))
    except CapabilityError:  # without root, or in a container whose root has not all of root's rights
        return _unshare_without_root(mount)


def enter_words(descriptors: NamespaceDescriptors) -> list[str]:
    """Return the words in front of a command that start it inside.

    `nsenter` replaces itself by the command (same pid) and opens the namespaces through this
    process's /proc entry, so the command need not, and should not, inherit the descriptors.
    """
    words = ["nsenter", f"--net={_path(descriptors.network)}"]
    if descriptors.mount is not None:
        words.append(f"--mount={_path(descriptors.mount)}")
    if descriptors.user is not None:
        # The kernel lets nobody change groups in there, and this user is root in there as it is.
        words += [f"--user={_path(descriptors.user)}", "--preserve-credentials"]
    return [*words, "--"]


def run_in_namespaces(descriptors: NamespaceDescriptors, function: Callable[[], Result]) -> Result:
    """Call `function` in a short-lived thread inside, and return or raise what it does.

    Sockets that it makes stay usable outside. Raises `CapabilityError` for namespaces that belong
    to a user namespace: no thread of a program can enter one, only a program of its own can.
    """
    if descriptors.user is not None:
        raise CapabilityError(
            "a thread cannot enter another user namespace: start a program with the words of `enter_words` instead"
        )

    def enter() -> Result:
        _enter(descriptors.network, _CLONE_NEWNET)
        if descriptors.mount is not None:
            _check(_libc.unshare(_CLONE_FS), "unshare(CLONE_FS)")
            _enter(descriptors.mount, _CLONE_NEWNS)
        return function()

    return _in_thread(enter)


def _path(descriptor: int) -> str:
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def _in_thread(function: Callable[[], Result]) -> Result:
    """Call `function` in a new thread: what it does to its namespaces ends with it."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
            errors.append(error)

    thread = threading.Thread(target=run, name="tumbler-namespace", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _unshare(mount: bool, prepare: Callable[[], None] | None) -> NamespaceDescriptors:
    _check(_libc.unshare(_CLONE_NEWNET | (_CLONE_NEWNS if mount else 0)), "unshare")
    if mount:
        _check(_libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None), "mount --make-rprivate /")
    _raise_loopback()
    if prepare is not None:
        prepare()
    return _open_namespaces("thread-self", ("net", "mnt") if mount else ("net",))


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        answer = fcntl.ioctl(control, _SIOCGIFFLAGS, _INTERFACE_FLAGS.pack(b"lo", 0))
        flags = int(_INTERFACE_FLAGS.unpack(answer)[1])
        fcntl.ioctl(control, _SIOCSIFFLAGS, _INTERFACE_FLAGS.pack(b"lo", flags | _IFF_UP))


def _open_namespaces(process: str, kinds: tuple[str, ...]) -> NamespaceDescriptors:
    found: dict[str, int] = {}
    try:
        for kind in kinds:
            found[kind] = os.open(f"/proc/{process}/ns/{kind}", _OPEN)
    except OSError:
        for descriptor in found.values():
            os.close(descriptor)
        raise
    return NamespaceDescriptors(network=found["net"], user=found.get("user"), mount=found.get("mnt"))


def _enter(descriptor: int, kind: int) -> None:
    _check(_libc.setns(descriptor, kind), "setns")


def _check(result: int, what: str) -> None:
    if result == 0:
        return
    code = ctypes.get_errno()
    said = f"{what} failed: {os.strerror(code)}"
    if isinstance(error := OSError(code, said), PermissionError):
        raise CapabilityError(f"{said}; namespaces need the capability SYS_ADMIN, or a user other than root") from error
    raise SandboxUnavailable(f"{said}; see /proc/sys/user/max_net_namespaces and the number of open files") from error


def _unshare_without_root(mount: bool) -> NamespaceDescriptors:
    _require("unshare")
    words = ["unshare", "--user", "--map-root-user", "--net", *(["--mount"] if mount else [])]
    holder = subprocess.Popen(
        [*words, "--", "sh", "-c", '"$@" && echo ready && read -r end', "sh", *_raising_words()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    timer = threading.Timer(_HOLDER_S, holder.kill)
    timer.start()
    try:
        assert holder.stdout is not None
        if holder.stdout.readline() == b"ready\n":
            return _open_namespaces(str(holder.pid), ("net", "user", *(("mnt",) if mount else ())))
        said = holder.communicate()[1].decode(errors="replace").strip()
        raise CapabilityError(
            f"this user cannot make a network namespace: {said or f'nothing happened in {_HOLDER_S} s'}; "
            "allow unprivileged user namespaces (see /proc/sys/user/max_user_namespaces), or run as root"
        )
    finally:
        timer.cancel()
        holder.communicate()


def _raising_words() -> list[str]:
    """Return a command that switches `lo` on: Python does it where iproute2 is missing, and takes longer."""
    if shutil.which("ip") is not None:
        return ["ip", "link", "set", "lo", "up"]
    request = (
        f"fcntl.ioctl(socket.socket(), {_SIOCSIFFLAGS}, struct.pack({_INTERFACE_FLAGS.format!r}, b'lo', {_IFF_UP}))"
    )
    return [sys.executable, "-I", "-S", "-c", f"import fcntl, socket, struct; {request}"]


@cache
def _require(program: str) -> None:
    if shutil.which(program) is None:
        raise CapabilityError(f"the program {program!r} is missing: install the package util-linux")
