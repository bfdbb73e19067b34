"""A small process that outlives the owner, and then removes what the owner left."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

from tumbler_backends.sandbox.bubblewrap.ownership.owners import read_owner
from tumbler_backends.sandbox.bubblewrap.ownership.reaping import reap_owner
from tumbler_backends.sandbox.bubblewrap.ownership.records import read_records

__all__ = ["Watchdog", "main"]

# A shell waits, because it takes a hundredth of an interpreter's memory.
_WAIT: Final = 'read -r word; [ "$word" = close ] && exit 0; exec "$@"'
_REAP: Final = "import json, sys; sys.path[:] = json.loads(sys.argv[2]); import {module}; {module}.main()"
_DEATH_S: Final = 30.0
_PAUSE_S: Final = 0.05
_LONGEST_SLEEP_S: Final = 60.0


class Watchdog:
    """The process as its owner sees it: it acts when this process is gone without a word."""

    def __init__(self, folder: Path) -> None:
        """Watch over the owner's `folder`."""
        words = [sys.executable, "-I", "-c", _REAP.format(module=__name__), str(folder), json.dumps(sys.path)]
        inner, self._pipe = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _WAIT, "tumbler-watchdog", *words],
                stdin=inner,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath)},
                start_new_session=True,
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(inner)

    def dismiss(self) -> None:
        """End it: there is nothing left to remove. Safe to call twice."""
        if self._pipe >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._pipe, b"close\n")
            os.close(self._pipe)
            self._pipe = -1
            self._process.wait()

    def leave(self) -> None:
        """Let it act as if this process were gone: from now on it sees to what the owner has left."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
            # It may outlive this process; if it does not, somebody has to take note of its end.
            threading.Thread(target=self._process.wait, daemon=True).start()


def main() -> None:
    """Wait for the owner's death, and reap its folder: at once, or each sandbox of a named owner at its time."""
    folder = Path(sys.argv[1])
    first = read_owner(folder)
    deadline = time.monotonic() + _DEATH_S
    while first is not None and not first.is_dead():  # its descriptors are closed a little before it is gone
        if time.monotonic() > deadline:
            return
        time.sleep(_PAUSE_S)
    while first is not None and read_owner(folder) == first:
        reap_owner(folder)
        left = [record.expires for record in read_records(folder)]
        if left:
            time.sleep(min(max(min(left) - time.time(), _PAUSE_S), _LONGEST_SLEEP_S))
