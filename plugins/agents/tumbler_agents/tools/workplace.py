"""The sandbox as the tools see it: where paths start, how files are read and written, how helpers run."""

import asyncio
import errno
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tumbler.contracts.sandbox import ExecResult, Sandbox
from tumbler.errors import PolicyDenied, SandboxStartFailed
from tumbler_agents.tools.bounds import decoded
from tumbler_agents.tools.checked import Refusal
from tumbler_agents.tools.ledger import FileLedger
from tumbler_agents.tools.settings import SandboxToolsSettings

__all__ = ["FileState", "Workplace"]

_STEP_SECONDS: Final = 30.0
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_DESCRIBE: Final = """
readlink -fn -- "$1" 2>/dev/null
printf '\\0'
ls -ldL -- "$1" 2>/dev/null | { read -r mode rest; printf %s "$mode"; }
"""
"""Prints where a path really leads, and the mode as `ls` writes it; nothing for what is not there."""


@dataclass(frozen=True, kw_only=True)
class FileState:
    """A file as it is before it is changed."""

    path: str
    """Absolute; links are resolved, so that writing changes the file and not the link."""
    content: bytes | None
    """None where there is no file yet."""
    mode: int


class Workplace:
    """One sandbox with its working folder, and what the policy knows of its files."""

    def __init__(self, sandbox: Sandbox, settings: SandboxToolsSettings, ledger: FileLedger) -> None:
        """Keep the parts; nothing runs yet."""
        self.sandbox = sandbox
        self.settings = settings
        self.ledger = ledger
        self.changing = asyncio.Lock()
        """Held from the look at a file to its writing, so that two edits of one turn do not undo each other."""
        self._folder: str | None = None

    async def folder(self) -> str:
        """Return the absolute working folder."""
        if self._folder is None:
            result = await self.sandbox.exec(["sh", "-c", "pwd"], cwd=self.settings.folder, timeout=_STEP_SECONDS)
            found = result.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")
            if result.exit_code != 0 or not found.startswith("/"):
                raise SandboxStartFailed(
                    f"sandbox {self.sandbox.id} does not tell its working folder: pwd exited with {result.exit_code}, "
                    f"{decoded(result.stderr)!r}; does its image have POSIX tools?"
                )
            self._folder = found
        return self._folder

    async def absolute(self, path: str) -> str:
        """Return the absolute path that a path of the policy means."""
        return posixpath.normpath(posixpath.join(await self.folder(), path))

    async def shown(self, path: str) -> str:
        """Return how an absolute path is written for the policy: relative where it lies below the working folder."""
        folder = await self.folder()
        return self.printable(posixpath.relpath(path, folder) if _below(path, folder) else path)

    @staticmethod
    def printable(path: str) -> str:
        """Return a path on one line, with control characters and bytes that are no UTF-8 escaped."""
        escaped = _CONTROL.sub(lambda found: repr(found[0])[1:-1], path)
        return escaped.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

    async def run(
        self, command: Sequence[str], *, cwd: str | None = None, given: bytes | None = None, most: int = 8 << 20
    ) -> ExecResult:
        """Run a helper command within the time for walks; raises `Refusal` where it takes longer."""
        seconds = self.settings.search_seconds
        result = await self.sandbox.exec(command, input=given, cwd=cwd, timeout=seconds, max_output=most)
        if result.timed_out:
            raise Refusal(f"it took longer than {seconds:g} seconds; name a smaller folder")
        return result

    async def read(self, path: str) -> bytes:
        """Return a file's bytes; raises `Refusal` and the builtin `OSError` classes."""
        absolute, most = await self.absolute(path), self.settings.file_bytes
        try:
            return await self.sandbox.read(absolute, limit=most)
        except PolicyDenied:
            # The host opens only some folders; a command sees what the sandbox's user sees.
            result = await self.run(["cat", "--", absolute], most=most)
        except FileNotFoundError:
            raise Refusal(
                f"there is no file {await self.shown(absolute)} (the working folder is {self._folder})"
            ) from None
        except IsADirectoryError:
            raise Refusal(f"{await self.shown(absolute)} is a folder; use list") from None
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            raise Refusal(_too_large(path, most)) from None
        if result.exit_code != 0:
            raise Refusal(decoded(result.stderr).strip() or f"{path} cannot be read")
        if result.truncated:
            raise Refusal(_too_large(path, most))
        return result.stdout

    async def look(self, path: str) -> FileState:
        """Return a file's state before a change."""
        absolute = await self.absolute(path)
        result = await self.run(["sh", "-c", _DESCRIBE, "sh", absolute])
        real, _, mode = result.stdout.decode("utf-8", "surrogateescape").partition("\0")
        real = real or absolute
        if not mode:
            return FileState(path=real, content=None, mode=0o644)
        if mode[0] == "d":
            raise Refusal(f"{await self.shown(absolute)} is a folder")
        if mode[0] != "-":
            raise Refusal(f"{await self.shown(absolute)} is no regular file")
        return FileState(path=real, content=await self.read(real), mode=_bits(mode))

    async def change(self, path: str, state: FileState, content: bytes) -> None:
        """Write a file that was looked at; the policy knows it then under the path that it used."""
        await self.sandbox.write(state.path, content, mode=state.mode)
        self.ledger.saw(await self.absolute(path), content)

    async def require_known(self, path: str, content: bytes) -> None:
        """Raise `Refusal` where the policy has not read what it is about to change."""
        absolute = await self.absolute(path)
        knowledge = self.ledger.knows(absolute, content)
        if knowledge == "unread":
            raise Refusal(f"{await self.shown(absolute)} has not been read: read it first, then change it")
        if knowledge == "changed":
            raise Refusal(f"{await self.shown(absolute)} has changed since it was last read: read it again first")


def _too_large(path: str, most: int) -> str:
    return f"{path} holds more than {most} bytes; use the shell to look at a part of it"


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _bits(mode: str) -> int:
    """Return the permission bits of `-rwxr-xr-x`; set-user-id and the like are not among them."""
    return sum(1 << (8 - place) for place, letter in enumerate(mode[1:10]) if letter in "rwxst")
