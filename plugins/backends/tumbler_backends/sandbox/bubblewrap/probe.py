"""Find out whether bubblewrap works here, and say how to make it work where it does not."""

import os
import shutil
from pathlib import Path
from typing import Final

from tumbler.errors import SandboxUnavailable

__all__ = ["explain", "find_program"]

_INSTALL: Final = (
    "install it with `apt-get install bubblewrap`, `dnf install bubblewrap` or `pacman -S bubblewrap`, "
    "or name it in the setting `bwrap`"
)
_SWITCHES: Final = (
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (or an AppArmor profile for bwrap)",
    ),
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
)
"""File, the value that forbids user namespaces, and the command that allows them."""


def find_program(name: str) -> str:
    """Return the path of bwrap; raise `SandboxUnavailable` with the command that installs it."""
    found = shutil.which(name)
    if found is None:
        raise SandboxUnavailable(
            f"the program {name!r} was not found on PATH {os.environ.get('PATH', '')!r}: {_INSTALL}"
        )
    return found


def explain(error: Exception) -> SandboxUnavailable:
    """Return the error to raise where a trial sandbox failed with `error`."""
    hints = [command for file, forbidding, command in _SWITCHES if _content(file) == forbidding]
    advice = "; ".join(hints) or (
        "in a container, allow user namespaces and mounts: "
        "`--security-opt seccomp=unconfined --security-opt apparmor=unconfined`, or use another sandbox backend"
    )
    return SandboxUnavailable(f"bubblewrap cannot make a sandbox here: {error}. To mend it: {advice}")


def _content(file: str) -> str | None:
    try:
        return Path(file).read_text().strip()
    except OSError:
        return None
