"""The files of one episode that a strategy writes: in the sandbox where there is one, in memory elsewhere."""

import re
from typing import Final
from urllib.parse import quote

from tumbler.contracts.context import EpisodeFiles
from tumbler.contracts.sandbox import Sandbox
from tumbler.errors import ContractError, SandboxError

__all__ = ["SandboxFiles", "TextFiles", "files_of_agent"]

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

    def __init__(self, sandbox: Sandbox, folder: str = _FOLDER) -> None:
        """Write into a folder of `sandbox`."""
        self._sandbox = sandbox
        self.folder: str | None = folder

    def of_agent(self, agent_id: str) -> "SandboxFiles":
        """Return the files of a sub-agent, in a folder of their own."""
        # No two ids give one name, and none leads out of the folder.
        name = quote(agent_id, safe="").replace("%2F", "+")
        return SandboxFiles(self._sandbox, f"{_FOLDER}/agent-{name}")

    async def write(self, name: str, text: str) -> str:
        """Keep a text; return its path in the sandbox. Half a surrogate pair, which is no text, is kept as `?`."""
        path = f"{self.folder}/{_plain(name)}"
        try:
            data = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            data = text.encode("utf-8", "replace")
        await self._sandbox.write(path, data)
        return path

    async def read(self, name: str) -> str | None:
        """Return a text as it is now; None if there is none, or the agent has put something else there."""
        try:
            content = await self._sandbox.read(f"{self.folder}/{_plain(name)}")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except SandboxError as error:
            if error.infra:
                raise
            return None
        return content.decode("utf-8", "replace")


def files_of_agent(files: EpisodeFiles, agent_id: str) -> EpisodeFiles:
    """Return an agent's own files, beside those of the others: names may be equal."""
    if agent_id == "main":
        return files
    return files.of_agent(agent_id) if isinstance(files, SandboxFiles) else TextFiles()


def _plain(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ContractError(
            f"a context strategy names a file {name!r}; use letters, digits, '.', '_' and '-', at most 128, no folder"
        )
    return name
