"""Registers the first-party context strategies."""

from typing import TYPE_CHECKING, TypeAlias

from tumbler import hookimpl
from tumbler.specs import ContextStrategySpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from tumbler.config import Settings
    from tumbler.contracts.context import ContextStrategy

_Parts: TypeAlias = "tuple[type[ContextStrategy], type[Settings]]"
"""A strategy, and its settings."""


def _none() -> _Parts:
    from tumbler.config import NoSettings
    from tumbler_agents.context.none import NoStrategy

    return NoStrategy, NoSettings


def _truncate_output() -> _Parts:
    from tumbler_agents.context.truncate_output import TruncateOutput, TruncateOutputSettings

    return TruncateOutput, TruncateOutputSettings


def _offload_output() -> _Parts:
    from tumbler_agents.context.offload_output import OffloadOutput, OffloadOutputSettings

    return OffloadOutput, OffloadOutputSettings


def _mask_observations() -> _Parts:
    from tumbler_agents.context.mask_observations import MaskObservations, MaskObservationsSettings

    return MaskObservations, MaskObservationsSettings


def _window() -> _Parts:
    from tumbler_agents.context.window import Window, WindowSettings

    return Window, WindowSettings


def _reset_with_handoff() -> _Parts:
    from tumbler_agents.context.reset_with_handoff import ResetWithHandoff, ResetWithHandoffSettings

    return ResetWithHandoff, ResetWithHandoffSettings


def _retrieval() -> _Parts:
    from tumbler_agents.context.retrieval import Retrieval, RetrievalSettings

    return Retrieval, RetrievalSettings


def _summary() -> _Parts:
    from tumbler_agents.context.summary import SummarySettings, SummaryStrategy

    return SummaryStrategy, SummarySettings


def _mask_then_summary() -> _Parts:
    from tumbler_agents.context.mask_then_summary import MaskThenSummary, MaskThenSummarySettings

    return MaskThenSummary, MaskThenSummarySettings


def _todo() -> _Parts:
    from tumbler_agents.context.todo import Todo, TodoSettings

    return Todo, TodoSettings


def _notes() -> _Parts:
    from tumbler_agents.context.notes import Notes, NotesSettings

    return Notes, NotesSettings


def _memory_files() -> _Parts:
    from tumbler_agents.context.memory_files import MemoryFiles, MemoryFilesSettings

    return MemoryFiles, MemoryFilesSettings


def _subagent() -> _Parts:
    from tumbler_agents.context.subagent import Subagent, SubagentSettings

    return Subagent, SubagentSettings


def _model_decides() -> _Parts:
    from tumbler_agents.context.model_decides import ModelDecides, ModelDecidesSettings

    return ModelDecides, ModelDecidesSettings


def _spec(name: str, summary: str, parts: "Callable[[], _Parts]", *, default: bool = False) -> ContextStrategySpec:
    return ContextStrategySpec(
        name=name, summary=summary, load=lambda: parts()[0], config=lambda: parts()[1], default=default
    )


@hookimpl
def tumbler_context_strategies() -> list[ContextStrategySpec]:
    """Provide the built-in strategies."""
    return [
        _spec("none", "Append only; a conversation that no longer fits is a typed error.", _none),
        _spec("truncate-output", "Shows head and tail of a long output, from the first on.", _truncate_output),
        _spec("offload-output", "Puts a long output into a file and shows its beginning.", _offload_output),
        _spec(
            "mask-observations",
            "Placeholders in place of old outputs; cheap, does not bound the prompt.",
            _mask_observations,
        ),
        _spec("window", "Leaves out the middle of the conversation; bounded.", _window),
        _spec(
            "reset-with-handoff",
            "Starts afresh from a note that the policy writes to itself; bounded.",
            _reset_with_handoff,
        ),
        _spec("retrieval", "Fetches what is no longer in view and fits the turn.", _retrieval),
        _spec("summary", "The policy sums up the middle of the conversation; bounded.", _summary, default=True),
        _spec(
            "mask-then-summary",
            "Masks old outputs; a summary once that no longer suffices; bounded.",
            _mask_then_summary,
        ),
        _spec("todo", "A plan that is recited and survives compaction.", _todo),
        _spec("notes", "Notes in files, listed again after a compaction.", _notes),
        _spec("memory-files", "AGENTS.md and saved facts, always in view.", _memory_files),
        _spec("subagent", "Branches that are folded into their result.", _subagent),
        _spec("model-decides", "The policy asks for compaction.", _model_decides),
    ]
