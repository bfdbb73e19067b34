"""The context strategy `offload-output`: long outputs go to a file, and a preview with its name is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from pydantic import NonNegativeInt, PositiveInt, model_validator

from tumbler.config import Settings
from tumbler.contracts.context import (
    Budget,
    Edit,
    EpisodeFiles,
    Exchange,
    LogEntry,
    Plan,
    Replace,
    State,
    StrategyAnswer,
    StrategyCaps,
    Trigger,
    View,
)
from tumbler.contracts.environment import Task
from tumbler.contracts.values import JSON, Message, ToolCall, ToolSpec
from tumbler.dialects.json_text import write_json
from tumbler_agents.context.excerpt import Count, excerpt, head_of, split_frame
from tumbler_agents.context.measuring import counter, freed_by
from tumbler_agents.context.observations import calls_answered, long_arrivals
from tumbler_agents.context.read_output import TOOL, answer, output_name, specified
from tumbler_agents.context.reciting import is_shown, recite

__all__ = ["OffloadOutput", "OffloadOutputSettings"]

_HEAD_SHARE: Final = 0.5
_LABEL: Final = 32
"""Tokens that say of which call a file is the output, where it is named again."""
_HEADING: Final = "Long outputs in files, which are no longer shown above:"
_SPARE: Final = 0.9
"""An answer of `read_output` takes at most this part of `max_tokens`: with the tags of a dialect around it, it must not
be put into a file again."""


class OffloadOutputSettings(Settings):
    """Which outputs go to files, and how much of them is shown."""

    max_tokens: PositiveInt = 2000
    """An output of more tokens goes to a file."""

    preview_tokens: PositiveInt = 400
    """Tokens that are shown of it, the line that names the file included."""

    recall: NonNegativeInt = 8
    """Files that are named again when a compaction has taken the lines that named them, the newest ones."""

    @model_validator(mode="after")
    def _require_shorter_preview(self) -> "OffloadOutputSettings":
        if self.preview_tokens > self.max_tokens:
            raise ValueError(
                f"preview_tokens = {self.preview_tokens} is more than max_tokens = {self.max_tokens}; "
                "a preview must be shorter than what it stands for"
            )
        return self


class OffloadOutput:
    """Writes outputs to files when they arrive: nothing is lost, and the token prefix is kept.

    The agent reads a file with its own tools where it has a sandbox, and with `read_output` everywhere. A file whose
    name a compaction has taken is named again in the newest output, one prompt after the compaction.
    """

    def __init__(self, settings: OffloadOutputSettings) -> None:
        """Keep the settings."""
        self._settings = settings

    @property
    def caps(self) -> StrategyCaps:
        """Promise to keep every token prefix."""
        return StrategyCaps()

    def start(self, task: Task, rng: Random) -> State:
        """Begin without a file."""
        return {"files": {}}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Put what has just arrived and is too long into a file; name files again that are no longer named."""
        if view.io is None:
            return Plan()
        files, edits = _files(state), list[Replace]()
        for exchange, entry in long_arrivals(view, self._settings.max_tokens):
            where = await _put(view.io.files, entry)
            shown = self._preview(entry, where, view.io.count)
            if shown is not None:
                edits.append(Replace(id=entry.id, content=shown, reason="long output kept in a file"))
                tokens = view.io.count(entry.message.content)
                files[output_name(entry.id)] = f"{_label(entry, exchange, view.io.count)}: {tokens} tokens; {where}"
        newest = list(files.items())[max(0, len(files) - self._settings.recall) :]
        state["files"] = dict(newest)
        return Plan(edits=[*edits, *_named_again(newest, edits, view, budget)])

    def tools(self) -> list[ToolSpec]:
        """Return `read_output`."""
        return [specified()]

    async def call(self, call: ToolCall, view: View, state: State) -> StrategyAnswer:
        """Answer with a part of a file, as long as fits below `max_tokens`."""
        return await answer(call, view.io, int(self._settings.max_tokens * _SPARE))

    def _preview(self, entry: LogEntry, where: str, count: Count) -> str | None:
        most = self._settings.preview_tokens
        return excerpt(entry.message.content, most, head_share=_HEAD_SHARE, count=count, hint=where)


async def _put(files: EpisodeFiles, entry: LogEntry) -> str:
    """Write an output into its file and return where it is, in words."""
    name = output_name(entry.id)
    path = await files.write(name, split_frame(entry.message.content)[1])
    return f"the whole output is in {path if files.folder is not None else f'{name}, read it with {TOOL}'}"


def _label(entry: LogEntry, exchange: Exchange, count: Count) -> str:
    """Return the call that the output answers, or its first line where that cannot be told."""
    call = calls_answered(exchange).get(entry.id)
    text = split_frame(entry.message.content)[1] if call is None else f"{call.name} {write_json(call.arguments)}"
    line = next((line for line in text.splitlines() if line.strip()), "")
    return head_of(" ".join(line.split()), _LABEL, count)


def _files(state: State) -> dict[str, JSON]:
    files = state["files"]
    return dict(files) if isinstance(files, Mapping) else {}


def _named_again(
    files: Sequence[tuple[str, JSON]], edits: Sequence[Replace], view: View, budget: Budget
) -> Sequence[Edit]:
    """Return the edit that names the files of which no entry holds the name once `edits` are carried out."""
    shown = _edited(view, edits) if edits else view
    lost = [f"- {line}" for name, line in files if not is_shown(shown, name)]
    if not lost:
        return ()
    left = replace(budget, used=budget.used - freed_by(edits, view))
    return recite(shown, left, "\n".join([_HEADING, *lost]))


def _edited(view: View, edits: Sequence[Replace]) -> View:
    count, contents = counter(view), {edit.id: edit.content for edit in edits}
    entries = [
        replace(
            each,
            message=Message(role=each.message.role, content=contents[each.id]),
            tokens=each.tokens + count(contents[each.id]) - count(each.message.content),
        )
        if each.id in contents
        else each
        for each in view.entries
    ]
    return View(entries=entries, io=view.io)
