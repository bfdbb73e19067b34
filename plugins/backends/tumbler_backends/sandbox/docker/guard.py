"""Keep a program that cleans up after this process, and remove what is left of owners long gone."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

from tumbler_backends.sandbox.docker.owners import LABEL, Owner, is_held

__all__ = ["Guard", "remove_empty_owners"]

_PROGRAM: Final = Path(__file__).with_name("watchdog.py")


class Guard:
    """The running watchdog of one owner."""

    def __init__(self, engine: str, owner: Owner) -> None:
        """Start it; it begins its work when this process is gone, however it went."""
        words = [sys.executable, "-I", "-S", str(_PROGRAM), "--engine", engine, "--label", LABEL]
        words += ["--owner", owner.name, "--folder", str(owner.folder), *(["--named"] if owner.named else [])]
        self._program = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )

    def end(self, *, with_work: bool) -> None:
        """Dismiss it; `with_work` lets it remove what this process did not."""
        if not with_work:
            self._program.kill()
        if self._program.stdin is not None:
            self._program.stdin.close()
        if with_work:
            # It may outlive this process; if it does not, somebody has to take note of its end.
            threading.Thread(target=self._program.wait, daemon=True).start()
        else:
            self._program.wait()


def remove_empty_owners(root: Path) -> None:
    """Remove the folders of owners that are gone and have nothing left."""
    for folder in root.iterdir() if root.is_dir() else []:
        if not is_held(folder) and {entry.name for entry in folder.iterdir()} <= {"lock"}:
            shutil.rmtree(folder, ignore_errors=True)
