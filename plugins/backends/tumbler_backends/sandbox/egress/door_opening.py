"""Get the gateway's sockets out of a namespace, with root by a thread and without it by a program."""

import asyncio
import contextlib
import errno
import socket
import sys
from pathlib import Path
from typing import Final

from tumbler.errors import CapabilityError, SandboxUnavailable
from tumbler_backends.sandbox.egress import doors as doors_program
from tumbler_backends.sandbox.egress.doors import Doors, open_doors
from tumbler_backends.sandbox.egress.network_namespace import NamespaceDescriptors, enter_words, run_in_namespaces

__all__ = ["open_doors_in"]

_HELPER_S: Final = 30.0
_MESSAGE_BYTES: Final = 4096
_PASSING: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRINUSE, errno.ETIMEDOUT)
_MOST_DOORS: Final = 16


async def open_doors_in(namespaces: NamespaceDescriptors) -> Doors:
    """Return the sockets, which are inside whoever uses them.

    Raises `CapabilityError` where this user may not enter or the kernel lacks something, and
    `SandboxUnavailable` where there are too few descriptors or the helper does not answer.
    """
    try:
        if namespaces.user is None:
            return run_in_namespaces(namespaces, open_doors)
        return await _by_helper(namespaces)
    except OSError as error:
        if isinstance(error, SandboxUnavailable):
            raise
        raise _failure(error.errno, error.strerror or str(error)) from error


async def _by_helper(namespaces: NamespaceDescriptors) -> Doors:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        words = enter_words(namespaces)
        # -I and -S: no code of the working directory or of site-packages runs with the namespace's rights.
        words += [sys.executable, "-I", "-S", str(Path(doors_program.__file__))]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *words, stdin=theirs.fileno(), stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )
        theirs.close()
        try:
            async with asyncio.timeout(_HELPER_S):
                said, _ = await process.communicate()
        except TimeoutError as error:
            raise SandboxUnavailable(f"the gateway's helper did not end within {_HELPER_S} s") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return _take(ours, said)


def _take(ours: socket.socket, said: bytes) -> Doors:
    try:
        message, descriptors, _, _ = socket.recv_fds(ours, _MESSAGE_BYTES, _MOST_DOORS)
    except BlockingIOError:
        message, descriptors = b"", []
    if not descriptors:
        number, _, what = (message or said).decode(errors="replace").strip().partition(" ")
        raise _failure(int(number), what) if number.isdigit() else _failure(None, f"{number} {what}")
    doors = Doors.of([socket.socket(fileno=descriptor) for descriptor in descriptors])
    for door in doors.all:
        door.setblocking(False)
    return doors


def _failure(number: int | None, what: str) -> CapabilityError | SandboxUnavailable:
    """Tell want of resources, which may pass, from want of rights or of support."""
    said = f"the gateway's sockets could not be opened in the sandbox's network: {what.strip()}"
    return SandboxUnavailable(said) if number in _PASSING else CapabilityError(said)
