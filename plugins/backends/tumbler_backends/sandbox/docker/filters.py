"""The seccomp filters of processes started past the engine: the engine's own one, and a stricter one of ours on top.

The engine's filter is read off a container's first process, so whatever profile the engine was told to use holds for
every command too. The kernel hands it out where it was built with CHECKPOINT_RESTORE, to root.
"""

import ctypes
import errno
import os
import platform
import struct
from typing import Final

from tumbler.errors import CapabilityError

__all__ = ["read_filters", "stricter_filter"]

_SEIZE: Final = 0x4206
_INTERRUPT: Final = 0x4207
_GET_FILTER: Final = 0x420C
_DETACH: Final = 17
_WAIT_ALL: Final = 0x40000000
_INSTRUCTION_BYTES: Final = 8
_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE = 0, 4
_X32_BIT: Final = 0x40000000
_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_DENIED: Final = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "fanotify_init": (300, 262),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "kcmp": (312, 272),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "request_key": (249, 218),
    "setns": (308, 268),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
"""Name → number on x86_64 and on aarch64. They fail with EPERM."""
_CLONE, _CLONE3, _IOCTL = (56, 220), (435, 435), (16, 29)
_NEW_NAMESPACES: Final = 0x7E020080
"""The flags of clone that make namespaces, CLONE_NEWTIME among them."""
_TERMINAL_INJECTION: Final = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX put words into a terminal's input."""

Instruction = tuple[int, int, int, int]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def read_filters(pid: int) -> list[bytes]:
    """Return the seccomp programs of a process, in the order in which they were installed.

    Raises `OSError` where the kernel does not hand them out. Must not run in the event loop: it waits a little.
    """
    _trace(_SEIZE, pid)
    try:
        _trace(_INTERRUPT, pid)
        os.waitpid(pid, _WAIT_ALL)
        programs: list[bytes] = []
        while (program := _read_filter(pid, len(programs))) is not None:
            programs.append(program)
    finally:
        _libc.ptrace(_DETACH, pid, None, None)
    # The kernel counts from the latest one.
    return programs[::-1]


def stricter_filter(machine: str = platform.machine()) -> bytes:
    """Compile the filter that takes away what Docker's default leaves: ptrace, io_uring, new namespaces and so on."""
    if machine not in _ARCHITECTURES:
        raise CapabilityError(
            f"no seccomp filter is known for {machine!r} machines, only for {', '.join(_ARCHITECTURES)}"
        )
    column = list(_ARCHITECTURES).index(machine)
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        # The engine's own filter deals with the processor's other modes.
        (_JUMP_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        program += [(_JUMP_ANY_BIT, 0, 1, _X32_BIT), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    for numbers in _DENIED.values():
        program += [(_JUMP_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    # Flags of clone3 lie behind a pointer, where no filter can look; libraries fall back to clone.
    program += [(_JUMP_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    program += [
        (_JUMP_EQUAL, 0, 4, _CLONE[column]),
        (_LOAD, 0, 0, 16),
        (_JUMP_ANY_BIT, 0, 1, _NEW_NAMESPACES & ~0x80),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
        (_JUMP_EQUAL, 0, 4, _IOCTL[column]),
        (_LOAD, 0, 0, 24),
        (_JUMP_EQUAL, 1, 0, _TERMINAL_INJECTION[0]),
        (_JUMP_EQUAL, 0, 1, _TERMINAL_INJECTION[1]),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def _read_filter(pid: int, index: int) -> bytes | None:
    try:
        length = _trace(_GET_FILTER, pid, index)
    except FileNotFoundError:
        return None
    room = ctypes.create_string_buffer(length * _INSTRUCTION_BYTES)
    _trace(_GET_FILTER, pid, index, ctypes.addressof(room))
    return room.raw


def _trace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    result = int(_libc.ptrace(request, pid, ctypes.c_void_p(address), ctypes.c_void_p(data)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"ptrace {request:#x}: {os.strerror(code)}")
    return result
