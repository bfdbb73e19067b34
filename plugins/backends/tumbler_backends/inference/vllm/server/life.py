"""The server ends with its owner, however that ends, and takes its files along."""

import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from threading import Thread
from types import FrameType

__all__ = ["end_with_owner"]

_PR_SET_PDEATHSIG = 1


def end_with_owner(owner: int, folders: Sequence[str]) -> None:
    """End this process, and remove the folders, once standard input closes or the owner is dead.

    Call it on the main thread. The pipe is how an owner ends the server; the kernel's signal is for the case
    that another process has inherited the pipe's other end.
    """

    def end(*_: object) -> None:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        end()

    def wait() -> None:
        while sys.stdin.buffer.read(1 << 16):
            continue
        end()

    signal.signal(signal.SIGTERM, on_signal)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != owner:
            end()
    Thread(target=wait, name="owner", daemon=True).start()
