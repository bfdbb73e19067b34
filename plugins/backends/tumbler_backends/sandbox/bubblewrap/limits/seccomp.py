"""Compile the sandbox's seccomp filter to classic BPF; knows nothing of bwrap.

Denied calls fail with an errno instead of killing the process, so that programs which probe for a
feature go on without it. Foreign architectures and the x32 interface, whose call numbers differ,
are refused as a whole.
"""

import errno
import os
import platform
import socket
import struct
from typing import Final

from tumbler.errors import SandboxUnavailable
from tumbler_backends.sandbox.bubblewrap.limits.syscall_table import DENIED, NUMBERS

__all__ = ["compile_filter", "filter_descriptor"]

_LOAD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_JUMP_AT_LEAST: Final = 0x35
_JUMP_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06

_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_ERRNO: Final = 0x00050000

_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_ARGUMENTS: Final = 16

_MACHINES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32_BIT: Final = 0x40000000

_NEW_NAMESPACES: Final = 0x7E020000
"""CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID and NET; unshare takes CLONE_NEWTIME (0x80) as well."""
_TERMINAL_INJECTION: Final = (0x5412, 0x541C, 0x5423)
"""TIOCSTI and TIOCLINUX: both can type into the terminal of whoever started the sandbox. TIOCSETD loads drivers."""
_LEASES: Final = (1024, 1040)
"""F_SETLEASE and F_SETDELEG: whoever owns a file of the host, as root does, could let the host's own programs wait for
45 seconds each time they open it."""
_CORE: Final = 4
"""RLIMIT_CORE. It is 1, for which the kernel starts no core handler on the host; for 0 it would."""
_FAMILIES: Final = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
"""The families that a network namespace confines; AF_VSOCK, for one, would reach past it."""

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand."""


def compile_filter(machine: str) -> bytes:
    """Return the filter program for `machine` as `platform.machine()` names it.

    Raises `SandboxUnavailable` for machines whose call numbers are not in the table.
    """
    if machine not in _MACHINES:
        raise SandboxUnavailable(
            f"the seccomp filter knows the system calls of {' and '.join(_MACHINES)}, not of {machine}: "
            "use another sandbox backend on this machine"
        )
    column, architecture = _MACHINES[machine]
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_AT_LEAST, 0, 1, _X32_BIT),
        _fail(errno.ENOSYS),
    ]
    for name in DENIED:
        program += _when(NUMBERS[name][column], [_fail(errno.EPERM)])
    program += _when(NUMBERS["clone3"][column], [_fail(errno.ENOSYS)])
    program += _when(NUMBERS["clone"][column], _deny_bits(0, _NEW_NAMESPACES))
    program += _when(NUMBERS["unshare"][column], _deny_bits(0, _NEW_NAMESPACES | 0x80))
    program += _when(NUMBERS["ioctl"][column], _deny_values(1, _TERMINAL_INJECTION))
    program += _when(NUMBERS["socket"][column], _allow_values(0, tuple(int(family) for family in _FAMILIES)))
    program += _when(NUMBERS["socketpair"][column], _allow_values(0, (int(socket.AF_UNIX),)))
    program += _when(NUMBERS["fcntl"][column], _deny_values(1, _LEASES))
    program += _when(NUMBERS["setrlimit"][column], _pretend(0, _CORE, []))
    # A call without new limits only asks.
    asks = [_argument(2), (_JUMP_EQUAL, 0, 3, 0), _argument_top(2), (_JUMP_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)]
    program += _when(NUMBERS["prlimit64"][column], _pretend(1, _CORE, asks))
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def filter_descriptor() -> int:
    """Return a descriptor that holds the filter of this machine; the caller closes it."""
    descriptor = os.memfd_create("tumbler-seccomp", os.MFD_CLOEXEC)
    os.write(descriptor, compile_filter(platform.machine()))
    return descriptor


def _fail(code: int) -> Instruction:
    return (_RETURN, 0, 0, _ERRNO | code)


def _when(number: int | None, body: list[Instruction]) -> list[Instruction]:
    """Guard `body`, each path of which returns, by the call's number."""
    return [] if number is None else [(_JUMP_EQUAL, 0, len(body), number), *body]


def _argument(index: int) -> Instruction:
    """Load the low half of an argument: flags, commands and families are 32 bits wide."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index)


def _argument_top(index: int) -> Instruction:
    """Load the high half of an argument: pointers are 64 bits wide."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index + 4)


def _pretend(index: int, value: int, unless: list[Instruction]) -> list[Instruction]:
    """Do nothing and report success where an argument has this value, unless `unless` returns."""
    pretended = [*unless, _fail(0)]
    return [_argument(index), (_JUMP_EQUAL, 0, len(pretended), value), *pretended, (_RETURN, 0, 0, _ALLOW)]


def _deny_bits(index: int, bits: int) -> list[Instruction]:
    return [_argument(index), (_JUMP_ANY_BIT, 0, 1, bits), _fail(errno.EPERM), (_RETURN, 0, 0, _ALLOW)]


def _deny_values(index: int, values: tuple[int, ...]) -> list[Instruction]:
    checks = [step for value in values for step in ((_JUMP_EQUAL, 0, 1, value), _fail(errno.EPERM))]
    return [_argument(index), *checks, (_RETURN, 0, 0, _ALLOW)]


def _allow_values(index: int, values: tuple[int, ...]) -> list[Instruction]:
    checks = [step for value in values for step in ((_JUMP_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW))]
    return [_argument(index), *checks, _fail(errno.EAFNOSUPPORT)]
