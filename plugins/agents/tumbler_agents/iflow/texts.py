"""Where texts are read from: a sandbox's files, or given ones; knows nothing of what they say."""

from collections.abc import Mapping
from typing import Final, Protocol

from tumbler.contracts.sandbox import Sandbox
from tumbler.errors import SandboxError

__all__ = ["GivenTexts", "SandboxTexts", "Texts"]

_MOST_BYTES: Final = 256 << 10


class Texts(Protocol):
    """Texts by path. Relative paths lie in the project's folder."""

    async def read(self, path: str) -> str | None:
        """Return the text, or None where there is none that can be read."""
        ...

    async def write(self, path: str, text: str) -> None:
        """Keep a text; raises `OSError` where that cannot be."""
        ...


class SandboxTexts:
    """The files of a sandbox; what is not there, too large, or forbidden is no text."""

    def __init__(self, sandbox: Sandbox) -> None:
        """Keep the sandbox."""
        self._sandbox = sandbox

    async def read(self, path: str) -> str | None:
        """Read a file."""
        try:
            content = await self._sandbox.read(path, limit=_MOST_BYTES)
        except SandboxError as error:
            if error.infra:
                raise
            return None
        except (OSError, ValueError):
            return None
        return content.decode("utf-8", "replace")

    async def write(self, path: str, text: str) -> None:
        """Write a file."""
        await self._sandbox.write(path, text.encode())


class GivenTexts:
    """Texts in memory."""

    def __init__(self, texts: Mapping[str, str] | None = None) -> None:
        """Start with these."""
        self.texts = dict(texts or {})

    async def read(self, path: str) -> str | None:
        """Return a text."""
        return self.texts.get(path)

    async def write(self, path: str, text: str) -> None:
        """Keep a text."""
        self.texts[path] = text
