"""The files of one episode that a strategy writes: in the sandbox where there is one, in memory elsewhere."""

import re
from typing import Final

from tumbler.contracts.sandbox import Sandbox
from tumbler.errors import ContractError, SandboxError

__all__ = ["SandboxFiles", "TextFiles"]

_FOLDER: Final = "/tmp/context"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class TextFiles:
    """Files in memory, where the agent has no sandbox to read them in."""

    folder: str | None = None

    def __init__(self) -> None:
        """Hold none."""
        self._texts: dict[str, str] = {}

    async def write(self, name: str, text: str) -> str:
        """Keep a text."""
        self._texts[_plain(name)] = text
        return name

    async def read(self, name: str) -> str | None:
        """Return a text; None if there is none."""
        return self._texts.get(_plain(name))


class SandboxFiles:
    """Files in a folder of the sandbox, for the agent to read with its own tools."""

    folder: str | None = _FOLDER

    def __init__(self, sandbox: Sandbox) -> None:
        """Write into `sandbox`."""
        self._sandbox = sandbox

    async def write(self, name: str, text: str) -> str:
        """Keep a text; return its path in the sandbox."""
        path = f"{_FOLDER}/{_plain(name)}"
        await self._sandbox.write(path, text.encode("utf-8", "surrogateescape"))
        return path

    async def read(self, name: str) -> str | None:
        """Return a text as it is now; None if there is none, or the agent has put something else there."""
        try:
            content = await self._sandbox.read(f"{_FOLDER}/{_plain(name)}")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except SandboxError as error:
            if error.infra:
                raise
            return None
        return content.decode("utf-8", "replace")


def _plain(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ContractError(
            f"a context strategy names a file {name!r}; use letters, digits, '.', '_' and '-', at most 128, no folder"
        )
    return name
