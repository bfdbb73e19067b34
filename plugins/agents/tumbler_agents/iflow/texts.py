"""Where texts are read from: a sandbox's files, or given ones; knows nothing of what they say."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from tumbler.contracts.sandbox import Sandbox
from tumbler.errors import SandboxError
from tumbler_agents.tools.ledger import FileLedger
from tumbler_agents.tools.settings import SandboxToolsSettings
from tumbler_agents.tools.workplace import Workplace

__all__ = ["GivenTexts", "SandboxTexts", "Texts"]

_MOST_BYTES: Final = 256 << 10


class Texts(Protocol):
    """Texts by path. Relative paths lie in the project's folder."""

    async def read(self, path: str) -> str | None:
        """Return the text, or None where there is none that can be read."""
        ...

    async def change(self, path: str, change: Callable[[str], str]) -> None:
        """Put in place of a text, empty where there is none, what `change` makes of it.

        Raises `OSError` and `Refusal` where that cannot be; what cannot be read is not overwritten.
        """
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

    async def change(self, path: str, change: Callable[[str], str]) -> None:
        """Change a file; links, the mode and bytes that are no UTF-8 stay as they are."""
        place = Workplace(self._sandbox, SandboxToolsSettings(), FileLedger())
        state = await place.look(path)
        text = (state.content or b"").decode("utf-8", "surrogateescape")
        await self._sandbox.write(state.path, change(text).encode("utf-8", "surrogateescape"), mode=state.mode)


class GivenTexts:
    """Texts in memory."""

    def __init__(self, texts: Mapping[str, str] | None = None) -> None:
        """Start with these."""
        self.texts = dict(texts or {})

    async def read(self, path: str) -> str | None:
        """Return a text."""
        return self.texts.get(path)

    async def change(self, path: str, change: Callable[[str], str]) -> None:
        """Change a text."""
        self.texts[path] = change(self.texts.get(path, ""))
