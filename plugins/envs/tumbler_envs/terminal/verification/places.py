"""Where the tests and their reward lie in the sandbox, made afresh when the agent is done.

Tests name their places: `/tests` and `/logs/verifier`. In a sandbox whose root cannot be written to, both lie in a new
folder under /tmp with a name that nobody could foresee, and the names are replaced in the tests' texts.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from tumbler.contracts.sandbox import Sandbox
from tumbler_envs.terminal.task import TaskFile

__all__ = ["Places", "lay_out", "make_places"]

_TESTS, _LOGS = "/tests", "/logs/verifier"
_NAMES = re.compile(rb"(?<![\w.})/-])(?=/(?:tests|logs/verifier)(?![\w.-]))")
"""Before either name, where it begins a path."""

_SECONDS = 10.0

_SCRIPT = f"""
umask 022
if [ "$1" = usual ]; then rm -rf {_TESTS} {_LOGS} && mkdir -p {_TESTS} {_LOGS} && exit 0; fi
mkdir "$2" && mkdir -p "$2{_TESTS}" "$2{_LOGS}" && printf moved
"""


@dataclass(frozen=True, kw_only=True)
class Places:
    """The two folders."""

    base: str = ""
    """What comes before their usual names; empty where they have those."""

    @property
    def tests(self) -> str:
        """Return the folder of the tests."""
        return self.base + _TESTS

    @property
    def logs(self) -> str:
        """Return the folder in which the reward is written."""
        return self.base + _LOGS

    def inward(self, content: bytes) -> bytes:
        """Return a test's content with the usual names replaced; what is no text stays as it is."""
        return content if not self.base or b"\0" in content else _NAMES.sub(self.base.encode(), content)

    def outward(self, text: str) -> str:
        """Return what the tests printed with the usual names put back."""
        return text.replace(self.base, "") if self.base else text


async def make_places(sandbox: Sandbox, *, writable_root: bool) -> Places | None:
    """Make both folders, empty; return None where the sandbox has no room for them.

    Args:
        sandbox: with no process left.
        writable_root: whether the usual places are tried first; what lies there is deleted.
    """
    base = f"/tmp/verifier-{secrets.token_hex(16)}"
    command = ["/bin/sh", "-c", _SCRIPT, "places", "usual" if writable_root else "own", base]
    result = await sandbox.exec(command, cwd="/", timeout=_SECONDS, max_output=1 << 12)
    if result.exit_code != 0:
        return None
    return Places(base=base if result.stdout.endswith(b"moved") else "")


async def lay_out(sandbox: Sandbox, places: Places, tests: Mapping[str, TaskFile]) -> None:
    """Write the tests."""
    for path, file in tests.items():
        await sandbox.write(f"{places.tests}/{path}", places.inward(file.content), mode=file.mode)
