"""A pseudo-terminal of a sandbox's own; the host holds its master side only."""

import errno
import fcntl
import os
import struct
import termios
from typing import Final

from tumbler.contracts.sandbox_process import TerminalSize

__all__ = ["open_terminal", "resize_terminal"]

_GET_NUMBER: Final = 0x80045430
_SET_LOCK: Final = 0x40045431


def open_terminal(pid: int, size: TerminalSize) -> tuple[int, int]:
    """Make a terminal in the `/dev/pts` that process `pid` sees; return the master and the number inside.

    It belongs to the sandbox's file system of terminals, so no terminal of the host is in reach. The caller closes
    the master. Nothing untrusted may have run in that mount namespace before, and nobody can have moved `/dev`.
    """
    master = os.open(f"/proc/{pid}/root/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not os.isatty(master):
            raise OSError(errno.ENOTTY, "the sandbox's /dev/pts/ptmx makes no terminal")
        fcntl.ioctl(master, _SET_LOCK, struct.pack("i", 0))
        number = struct.unpack("I", fcntl.ioctl(master, _GET_NUMBER, bytes(4)))[0]
        resize_terminal(master, size)
    except BaseException:
        os.close(master)
        raise
    return master, int(number)


def resize_terminal(master: int, size: TerminalSize) -> None:
    """Set the size; the kernel tells the foreground processes with SIGWINCH."""
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", size.rows, size.columns, 0, 0))
