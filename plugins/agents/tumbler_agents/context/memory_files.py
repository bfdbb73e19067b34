"""The context strategy `memory-files`: what files such as AGENTS.md say is shown at the start and never lost."""

from collections.abc import Mapping, Sequence
from random import Random
from re import fullmatch
from typing import Final

from pydantic import DirectoryPath, PositiveInt, field_validator

from tumbler.config import Settings
from tumbler.contracts.context import (
    Budget,
    EpisodeFiles,
    Plan,
    State,
    StrategyAnswer,
    StrategyCaps,
    Trigger,
    View,
)
from tumbler.contracts.environment import Task
from tumbler.contracts.values import ToolCall, ToolSpec
from tumbler_agents.context.calling import MalformedCall, ToolName, refused, required_text, text_parameters
from tumbler_agents.context.clipping import clip
from tumbler_agents.context.measuring import counter
from tumbler_agents.context.reciting import is_shown, recite

__all__ = ["MemoryFiles", "MemoryFilesSettings"]

_SAVED: Final = "saved-memory.md"
_DESCRIPTION = """\
Remembers a fact for the rest of the work, also when older messages are gone: a wish of the user, a convention of the
project, something hard to find out. One sentence that can be understood on its own; not the progress of the task."""


class MemoryFilesSettings(Settings):
    """Which files are memory, and how much of them is shown."""

    names: tuple[str, ...] = ("AGENTS.md",)
    """File names, the general ones first. Each is looked for in `folder`, then among the episode's files."""

    folder: DirectoryPath | None = None
    """A folder of the machine that runs the episodes, with memory that all of them share; it is never written."""

    max_tokens: PositiveInt = 2048
    """Tokens of the files that are shown, at most; what is longer is cut in its middle."""

    max_facts: PositiveInt = 50
    """Facts that one episode may save."""

    max_fact_tokens: PositiveInt = 128
    """Tokens of one fact, at most; a longer one is refused."""

    tool: ToolName = "save_memory"
    """The tool's name."""

    @field_validator("names")
    @classmethod
    def _plain(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
                raise ValueError(f"{name!r} is no plain file name: letters, digits, '.', '_' and '-', no folder")
        return names


class MemoryFiles:
    """Shows the files in a message after the task, and shows them again when a compaction has taken it.

    Put it after the strategies that compact. What the policy saves lasts for the episode.
    """

    def __init__(self, settings: MemoryFilesSettings) -> None:
        """Keep the settings."""
        self._settings = settings

    @property
    def caps(self) -> StrategyCaps:
        """Promise to keep what was shown."""
        return StrategyCaps()

    def start(self, task: Task, rng: Random) -> State:
        """Read the shared files; the episode's own are read with the first prompt."""
        folder = self._settings.folder
        found = {} if folder is None else {name: folder / name for name in self._settings.names}
        shared = {name: path.read_text("utf-8", "replace") for name, path in found.items() if path.is_file()}
        return {"shared": shared, "text": None, "facts": []}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Show the memory when it, or a fact that was saved, is not in view."""
        if state["text"] is None:
            state["text"] = await self._read(view, state)
        text, facts = str(state["text"]), _facts(state)
        if (not text or is_shown(view, text)) and all(is_shown(view, fact) for fact in facts):
            return Plan()
        saved = "\n".join(["## Saved so far", *(f"- {fact}" for fact in facts)]) if facts else ""
        shown = "\n\n".join(part for part in (text, saved) if part)
        return Plan(edits=recite(view, budget, shown))

    def tools(self) -> Sequence[ToolSpec]:
        """Return the tool that saves a fact."""
        parameters = text_parameters(("fact",), fact="The fact.")
        return [ToolSpec(name=self._settings.tool, description=_DESCRIPTION, parameters=parameters)]

    async def call(self, call: ToolCall, view: View, state: State) -> StrategyAnswer:
        """Save a fact, and answer with it, so that it is in view."""
        try:
            fact = " ".join(required_text(call, "fact").split())
            self._require_room(fact, view, state)
        except MalformedCall as error:
            return refused(error)
        facts = [*(each for each in _facts(state) if each != fact), fact]
        state["facts"] = facts
        if view.io is not None:
            await view.io.files.write(_SAVED, "".join(f"- {each}\n" for each in facts))
        return StrategyAnswer(text=f"Saved: {fact}")

    def _require_room(self, fact: str, view: View, state: State) -> None:
        tokens, facts = counter(view)(fact), _facts(state)
        if tokens > self._settings.max_fact_tokens:
            most = self._settings.max_fact_tokens
            raise MalformedCall(f"the fact has {tokens} tokens and may have {most}; save one sentence")
        if fact not in facts and len(facts) >= self._settings.max_facts:
            raise MalformedCall(f"{len(facts)} facts are saved, as many as may be; go on with the task")

    async def _read(self, view: View, state: State) -> str:
        """Return the text of all files, each under its name."""
        shared = state["shared"]
        texts = [(name, str(text)) for name, text in shared.items()] if isinstance(shared, Mapping) else []
        if view.io is not None:
            texts += [(name, text) for name, text in await _laid(view.io.files, self._settings.names)]
        whole = "\n\n".join(f"## {name}\n{text.strip()}" for name, text in texts if text.strip())
        count, most = counter(view), self._settings.max_tokens
        return clip(f"# Memory\n{whole}", most, count) if whole else ""


async def _laid(files: EpisodeFiles, names: Sequence[str]) -> Sequence[tuple[str, str]]:
    found = [(name, await files.read(name)) for name in names]
    return [(name, text) for name, text in found if text is not None]


def _facts(state: State) -> list[str]:
    facts = state["facts"]
    return [str(fact) for fact in facts] if isinstance(facts, Sequence) and not isinstance(facts, str) else []
