"""Ends whatever the agent left running, so that nothing of it acts while the tests run.

The shell's session is not ended here but by its owner. Processes that the backend knows are ended one by one. Any
others are killed by `kill -9 -1`, as the sandbox's user, and only in a PID namespace of the sandbox's own: neither the
first one of a machine nor this process's, whatever the backend says of its isolation. Root kills nothing that way:
what keeps a container alive would go, too, and an agent that was root could have replaced the very tests' programs.
"""

import contextlib
from pathlib import Path

from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.sandbox_process import SpawningSandbox

__all__ = ["end_processes"]

_INITIAL = "pid:[4026531836]"
"""The PID namespace that Linux begins with; its number is fixed."""

_SECONDS = 10.0

_SCRIPT = """
namespace=$(readlink /proc/self/ns/pid) || exit 0
user=$(id -u) || exit 0
case $namespace in "" | "$1" | "$2") exit 0 ;; esac
case $user in "" | 0) exit 0 ;; esac
kill -9 -1
"""


async def end_processes(sandbox: Sandbox) -> None:
    """End all processes but the backend's own."""
    if isinstance(sandbox, SpawningSandbox):
        for info in await sandbox.processes():
            if info.exit is None:
                with contextlib.suppress(ProcessLookupError):
                    await (await sandbox.process(info.exec_id)).kill()
    if sandbox.tier != "process":
        command = ["/bin/sh", "-c", _SCRIPT, "end", _INITIAL, _own_namespace()]
        await sandbox.exec(command, cwd="/", timeout=_SECONDS, max_output=1 << 12)


def _own_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return _INITIAL
