"""A disk of its own for a run, small enough to be filled: a tmpfs in a mount namespace, gone with the holder."""

import contextlib
import os
import subprocess
from pathlib import Path


class SmallDisk:
    """Holds a namespace in which a small tmpfs lies at `place`; needs root, or user namespaces."""

    def __init__(self, place: Path, *, kib: int, work: Path) -> None:
        place.mkdir(exist_ok=True)
        as_root = () if os.geteuid() == 0 else ("--user", "--map-root-user")
        script = f"mount -t tmpfs -o size={kib}k tmpfs {place} && echo mounted && exec sleep infinity"
        self._holder = subprocess.Popen(
            ["unshare", "--mount", *as_root, "sh", "-c", script], stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "mounted\n"
        self.path = Path(f"/proc/{self._holder.pid}/root") / place.relative_to("/")
        """Where it is seen from outside."""
        user = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
        self.enter = ("nsenter", "--target", str(self._holder.pid), "--mount", *user, f"--wd={work}")
        """What a command begins with that is to find the disk at its place; it works in the folder `work`."""

    def fill(self, *, leave: int = 0) -> None:
        """Take all room but so many KiB, or what the run leaves that takes some itself meanwhile."""
        free = os.statvfs(self.path)
        size = free.f_bavail * free.f_frsize - leave * 1024
        with contextlib.suppress(OSError), (self.path / "ballast").open("ab", buffering=0) as file:
            while size > 0:
                size -= file.write(bytes(size))

    def make_room(self) -> None:
        (self.path / "ballast").unlink()

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()
