"""Memory files: what the agent is told in every conversation, and the tool that adds to it."""

import posixpath
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from pydantic import Field, field_validator

from tumbler.config import Settings
from tumbler_agents.iflow.imports import expanded
from tumbler_agents.iflow.texts import Texts
from tumbler_agents.tools.bounds import bounded
from tumbler_agents.tools.checked import Arguments, CheckedTool, Refusal
from tumbler_agents.tools.tool import ToolOutput

__all__ = ["Memory", "MemorySettings", "SaveMemoryArguments", "memory_tool"]

_HEADING: Final = "## Saved memories"


class MemorySettings(Settings):
    """Which files hold the agent's memory."""

    names: tuple[str, ...] = ("AGENTS.md",)
    """Names of memory files, in the project's folder and in those below it. Of several, the first that is there is
    read. None reads no files."""

    general: tuple[str, ...] = ()
    """Files that hold for every project: absolute paths in the sandbox."""

    texts: Mapping[str, str] = Field(default_factory=dict)
    """Further memory, by a name that says where it comes from."""

    characters: int = Field(default=20_000, ge=0)
    """What is shown of all files together, and again of those of each folder; 0 shows none."""

    @field_validator("names")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not name or "/" in name or name in (".", ".."):
                raise ValueError(f"{name!r} is not the name of a file; other folders' files belong into `general`")
        return value


class SaveMemoryArguments(Arguments):
    """Remember a fact for later conversations: a preference, a convention, something hard to find out. Not for the
    progress of this task.
    """

    fact: str = Field(min_length=1, max_length=1000)
    """One sentence that can be understood on its own."""

    scope: Literal["project", "general"] = "project"
    """Whether it holds for this project, or for all."""


class Memory:
    """The memory of one conversation, general files first, then the project's, then those of folders below."""

    def __init__(
        self, settings: MemorySettings, texts: Texts, saved: Sequence[str] = (), shown: Sequence[str] = ()
    ) -> None:
        """Read files through `texts`; those of `shown` are in view already."""
        self._settings = settings
        self._texts = texts
        self._shown = set(shown)
        self.saved = list(saved)
        """Facts that were saved in this conversation: the files as they were shown do not hold them."""

    @property
    def shown(self) -> Sequence[str]:
        """Return the files that the agent was told of, and that may still be in view."""
        return sorted(self._shown)

    async def opening(self) -> str:
        """Return what the agent is told at the start."""
        parts = [_section(name, text) for name, text in self._settings.texts.items()]
        for path in self._settings.general:
            parts += await self._file(path)
        parts += await self._folder("")
        return bounded("\n\n".join(parts), self._settings.characters) if self._settings.characters else ""

    async def below(self, paths: Sequence[str]) -> str:
        """Return the memory of the folders on the way to these files, relative to the project, that is new."""
        parts: list[str] = []
        for path in paths:
            for folder in _folders(path):
                parts += await self._folder(folder)
        return bounded("\n\n".join(parts), self._settings.characters) if self._settings.characters else ""

    def forget_shown(self) -> None:
        """Note that what was shown of folders may have been lost; it is told again when files there are read."""
        self._shown.clear()

    async def save(self, fact: str, *, general: bool) -> str:
        """Add a fact to a memory file and return its path; raises `OSError` and `Refusal` where that cannot be."""
        path = await self._path_to_save(general=general)
        entry = f"- {' '.join(fact.split())}"
        await self._texts.change(path, lambda text: _added(text, entry))
        self.saved.append(entry)
        return path

    async def _path_to_save(self, *, general: bool) -> str:
        """Return the file that is read: a new one with an earlier name would take its place in later conversations."""
        if general:
            if not self._settings.general:
                raise Refusal("there is no general memory file; use the scope project")
            return self._settings.general[0]
        if not self._settings.names:
            raise Refusal("there is no memory file")
        for name in self._settings.names:
            if (await self._texts.read(name) or "").strip():
                return name
        return self._settings.names[0]

    async def _folder(self, folder: str) -> list[str]:
        for name in self._settings.names:
            parts = await self._file(posixpath.join(folder, name))
            if parts:
                return parts
        return []

    async def _file(self, path: str) -> list[str]:
        if path in self._shown:
            return []
        text = await self._texts.read(path)
        if text is None or not text.strip():
            return []
        self._shown.add(path)
        return [_section(path, await expanded(self._texts, path, text))]


def memory_tool(memory: Memory) -> CheckedTool[SaveMemoryArguments]:
    """Return the tool `save_memory`."""

    async def carry_out(given: SaveMemoryArguments) -> ToolOutput:
        path = await memory.save(given.fact, general=given.scope == "general")
        return ToolOutput(text=f"Saved to {path}.")

    return CheckedTool("save_memory", SaveMemoryArguments, carry_out)


def _section(name: str, text: str) -> str:
    return f'<memory from="{name}">\n{text.strip()}\n</memory>'


def _added(text: str, entry: str) -> str:
    """Return a file's text with an entry at the end of its section of saved memories."""
    lines = text.rstrip().split("\n") if text.strip() else []
    if _HEADING not in lines:
        return "\n".join([*lines, *([""] if lines else []), _HEADING, entry, ""])
    start = lines.index(_HEADING) + 1
    end = next((index for index in range(start, len(lines)) if lines[index].startswith("#")), len(lines))
    while not lines[end - 1].strip():
        end -= 1
    return "\n".join([*lines[:end], entry, *lines[end:], ""])


def _folders(path: str) -> Sequence[str]:
    """Return the folders from below the project's down to a file's; none where it lies outside."""
    parts = posixpath.normpath(path).split("/")[:-1]
    if path.startswith("/") or ".." in parts:
        return []
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]
