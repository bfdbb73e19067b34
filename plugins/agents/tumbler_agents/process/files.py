"""A program's own files in a sandbox, written and read by commands there: as its user, under the paths it sees."""

from typing import Final

from tumbler.contracts.sandbox import Sandbox
from tumbler.errors import ExecFailed

__all__ = ["make_folder", "read_file", "write_file"]

_MAKE: Final = 'cd "${TMPDIR:-/tmp}" && mkdir -p -m 700 tumbler-agent && cd tumbler-agent && pwd'
_WRITE: Final = 'mkdir -p -- "${1%/*}" && cat > "$1"'
_SECONDS: Final = 60.0


async def make_folder(sandbox: Sandbox) -> str:
    """Make the folder of the program's own files, and return its path. Safe to call twice."""
    result = await sandbox.exec(_MAKE, timeout=_SECONDS)
    if result.exit_code != 0 or result.timed_out:
        raise ExecFailed(f"no folder for the agent's program can be made in the sandbox: {_said(result.stderr)}")
    return result.stdout.decode().strip()


async def write_file(sandbox: Sandbox, path: str, content: bytes) -> None:
    """Write a file, its folders made."""
    result = await sandbox.exec(["sh", "-c", _WRITE, "write", path], input=content, timeout=_SECONDS)
    if result.exit_code != 0 or result.timed_out:
        raise ExecFailed(f"{path} cannot be written in the sandbox: {_said(result.stderr)}")


async def read_file(sandbox: Sandbox, path: str, *, limit: int) -> bytes | None:
    """Return a file, cut after `limit` bytes; None where none can be read."""
    result = await sandbox.exec(["cat", "--", path], timeout=_SECONDS, max_output=limit)
    return result.stdout if result.exit_code == 0 and not result.timed_out else None


def _said(words: bytes) -> str:
    return words.decode(errors="replace").strip()[-500:]
