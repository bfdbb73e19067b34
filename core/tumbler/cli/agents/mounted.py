"""A sandbox that works in a folder of the host that is mounted into it, with its files as its commands see them.

Some backends read and write files past the sandbox's processes, where what is mounted is not to be seen.
"""

import errno
import os
import posixpath
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from tumbler.contracts.sandbox import ExecResult, IsolationTier, Sandbox, Session
from tumbler.errors import QuotaExceeded, SandboxDied

__all__ = ["MountedSandbox"]

_SECONDS: Final = 60.0
_MISSING, _FOLDER, _OTHER, _FORBIDDEN = 41, 42, 43, 44
_READ: Final = f"""
[ -d "$1" ] && exit {_FOLDER}
[ -e "$1" ] || exit {_MISSING}
[ -f "$1" ] || exit {_OTHER}
[ -r "$1" ] || exit {_FORBIDDEN}
exec cat -- "$1"
"""
_WRITE: Final = f"""
[ -d "$1" ] && exit {_FOLDER}
folder=$(dirname -- "$1")
mkdir -p -- "$folder" || exit {_FORBIDDEN}
beside=$(mktemp -- "$folder/.tumbler-XXXXXX") || exit {_FORBIDDEN}
cat >"$beside" && chmod "$2" "$beside" && mv -f -- "$beside" "$1" && exit 0
rm -f -- "$beside"
exit 1
"""
"""The file appears whole."""
_ERRORS: Final = {
    _MISSING: (FileNotFoundError, errno.ENOENT),
    _FOLDER: (IsADirectoryError, errno.EISDIR),
    _OTHER: (OSError, errno.EINVAL),
    _FORBIDDEN: (PermissionError, errno.EACCES),
}


class MountedSandbox:
    """The `Sandbox` itself, but that its work begins in the folder, and that commands in it read and write files."""

    def __init__(self, sandbox: Sandbox, folder: str) -> None:
        """Pass all else on to `sandbox`, which has the folder mounted at this absolute path."""
        self._sandbox = sandbox
        self._folder = folder

    @property
    def id(self) -> str:
        """Return the sandbox's id."""
        return self._sandbox.id

    @property
    def tier(self) -> IsolationTier:
        """Return the sandbox's isolation."""
        return self._sandbox.tier

    async def exec(
        self,
        command: str | Sequence[str],
        *,
        input: bytes | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        max_output: int = 10 << 20,
        check: bool = False,
    ) -> ExecResult:
        """Run one command; it starts in the folder."""
        cwd = posixpath.join(self._folder, cwd or "")
        return await self._sandbox.exec(
            command, input=input, cwd=cwd, env=env, timeout=timeout, max_output=max_output, check=check
        )

    async def session(self) -> Session:
        """Open a shell session in the folder."""
        session = await self._sandbox.session()
        result = await session.run(f"cd -- {shlex.quote(self._folder)}")
        if result.exit_code != 0:
            await session.close()
            raise SandboxDied(f"{self._folder} cannot be entered: {result.stderr.decode(errors='replace').strip()}")
        return session

    async def write(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file, parents made; a link in the last place is replaced."""
        command = ["sh", "-c", _WRITE, "sh", _named(path), f"{mode:o}"]
        result = await self.exec(command, input=content, timeout=_SECONDS)
        if result.exit_code == 1:
            raise QuotaExceeded(f"{path!r} could not be written: {result.stderr.decode(errors='replace').strip()}")
        _require(result, path)

    async def read(self, path: str, *, limit: int = 10 << 20) -> bytes:
        """Read a file of at most `limit` bytes."""
        command = ["sh", "-c", _READ, "sh", _named(path)]
        result = await self.exec(command, timeout=_SECONDS, max_output=limit)
        _require(result, path)
        if result.truncated:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        return result.stdout

    async def alive(self) -> bool:
        """Tell whether the sandbox executes commands."""
        return await self._sandbox.alive()

    async def delete(self) -> None:
        """Delete the sandbox; what is mounted stays."""
        await self._sandbox.delete()


def _named(path: str) -> str:
    """Return a path that no command takes for an option; raise `ValueError` for one that no file has."""
    if "\0" in path or not path:
        raise ValueError(f"{path!r} is no path")
    return path if path.startswith("/") else f"./{path}"


def _require(result: ExecResult, path: str) -> None:
    """Raise what is wrong with a file."""
    if result.exit_code == 0:
        return
    if result.exit_code in _ERRORS:
        kind, number = _ERRORS[result.exit_code]
        raise kind(number, os.strerror(number), path)
    said = result.stderr.decode(errors="replace").strip()
    raise SandboxDied(f"{path!r} cannot be reached in the sandbox: exit code {result.exit_code}: {said}")
