"""Registers the first-party context strategies."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import ContextStrategySpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.context import ContextStrategy


def _none() -> "type[ContextStrategy]":
    from tumbler_agents.context.none import NoStrategy

    return NoStrategy


def _none_settings() -> "type[Settings]":
    from tumbler.config import NoSettings

    return NoSettings


def _truncate_output() -> "type[ContextStrategy]":
    from tumbler_agents.context.truncate_output import TruncateOutput

    return TruncateOutput


def _truncate_output_settings() -> "type[Settings]":
    from tumbler_agents.context.truncate_output import TruncateOutputSettings

    return TruncateOutputSettings


def _offload_output() -> "type[ContextStrategy]":
    from tumbler_agents.context.offload_output import OffloadOutput

    return OffloadOutput


def _offload_output_settings() -> "type[Settings]":
    from tumbler_agents.context.offload_output import OffloadOutputSettings

    return OffloadOutputSettings


def _mask_observations() -> "type[ContextStrategy]":
    from tumbler_agents.context.mask_observations import MaskObservations

    return MaskObservations


def _mask_observations_settings() -> "type[Settings]":
    from tumbler_agents.context.mask_observations import MaskObservationsSettings

    return MaskObservationsSettings


def _window() -> "type[ContextStrategy]":
    from tumbler_agents.context.window import Window

    return Window


def _window_settings() -> "type[Settings]":
    from tumbler_agents.context.window import WindowSettings

    return WindowSettings


def _reset_with_handoff() -> "type[ContextStrategy]":
    from tumbler_agents.context.reset_with_handoff import ResetWithHandoff

    return ResetWithHandoff


def _reset_with_handoff_settings() -> "type[Settings]":
    from tumbler_agents.context.reset_with_handoff import ResetWithHandoffSettings

    return ResetWithHandoffSettings


def _retrieval() -> "type[ContextStrategy]":
    from tumbler_agents.context.retrieval import Retrieval

    return Retrieval


def _retrieval_settings() -> "type[Settings]":
    from tumbler_agents.context.retrieval import RetrievalSettings

    return RetrievalSettings


def _summary() -> "type[ContextStrategy]":
    from tumbler_agents.context.summary import SummaryStrategy

    return SummaryStrategy


def _summary_settings() -> "type[Settings]":
    from tumbler_agents.context.summary import SummarySettings

    return SummarySettings


def _mask_then_summary() -> "type[ContextStrategy]":
    from tumbler_agents.context.mask_then_summary import MaskThenSummary

    return MaskThenSummary


def _mask_then_summary_settings() -> "type[Settings]":
    from tumbler_agents.context.mask_then_summary import MaskThenSummarySettings

    return MaskThenSummarySettings


def _todo() -> "type[ContextStrategy]":
    from tumbler_agents.context.todo import Todo

    return Todo


def _todo_settings() -> "type[Settings]":
    from tumbler_agents.context.todo import TodoSettings

    return TodoSettings


def _notes() -> "type[ContextStrategy]":
    from tumbler_agents.context.notes import Notes

    return Notes


def _notes_settings() -> "type[Settings]":
    from tumbler_agents.context.notes import NotesSettings

    return NotesSettings


def _memory_files() -> "type[ContextStrategy]":
    from tumbler_agents.context.memory_files import MemoryFiles

    return MemoryFiles


def _memory_files_settings() -> "type[Settings]":
    from tumbler_agents.context.memory_files import MemoryFilesSettings

    return MemoryFilesSettings


def _subagent() -> "type[ContextStrategy]":
    from tumbler_agents.context.subagent import Subagent

    return Subagent


def _subagent_settings() -> "type[Settings]":
    from tumbler_agents.context.subagent import SubagentSettings

    return SubagentSettings


def _model_decides() -> "type[ContextStrategy]":
    from tumbler_agents.context.model_decides import ModelDecides

    return ModelDecides


def _model_decides_settings() -> "type[Settings]":
    from tumbler_agents.context.model_decides import ModelDecidesSettings

    return ModelDecidesSettings


@hookimpl
def tumbler_context_strategies() -> list[ContextStrategySpec]:
    """Provide the built-in strategies."""
    return [
        ContextStrategySpec(
            name="none",
            summary="Append only; a conversation that no longer fits is a typed error.",
            load=_none,
            config=_none_settings,
        ),
        ContextStrategySpec(
            name="truncate-output",
            summary="Shows head and tail of a long output, from the first on.",
            load=_truncate_output,
            config=_truncate_output_settings,
        ),
        ContextStrategySpec(
            name="offload-output",
            summary="Puts a long output into a file and shows its beginning.",
            load=_offload_output,
            config=_offload_output_settings,
        ),
        ContextStrategySpec(
            name="mask-observations",
            summary="Placeholders in place of old outputs; cheap, does not bound the prompt.",
            load=_mask_observations,
            config=_mask_observations_settings,
        ),
        ContextStrategySpec(
            name="window",
            summary="Leaves out the middle of the conversation; bounded.",
            load=_window,
            config=_window_settings,
        ),
        ContextStrategySpec(
            name="reset-with-handoff",
            summary="Starts afresh from a note that the policy writes to itself; bounded.",
            load=_reset_with_handoff,
            config=_reset_with_handoff_settings,
        ),
        ContextStrategySpec(
            name="retrieval",
            summary="Fetches what is no longer in view and fits the turn.",
            load=_retrieval,
            config=_retrieval_settings,
        ),
        ContextStrategySpec(
            name="summary",
            summary="The policy sums up the middle of the conversation; bounded.",
            load=_summary,
            config=_summary_settings,
        ),
        ContextStrategySpec(
            name="mask-then-summary",
            summary="Masks old outputs; a summary once that no longer suffices; bounded.",
            load=_mask_then_summary,
            config=_mask_then_summary_settings,
        ),
        ContextStrategySpec(
            name="todo",
            summary="A plan that is recited and survives compaction.",
            load=_todo,
            config=_todo_settings,
        ),
        ContextStrategySpec(
            name="notes",
            summary="Notes in files, listed again after a compaction.",
            load=_notes,
            config=_notes_settings,
        ),
        ContextStrategySpec(
            name="memory-files",
            summary="AGENTS.md and saved facts, always in view.",
            load=_memory_files,
            config=_memory_files_settings,
        ),
        ContextStrategySpec(
            name="subagent",
            summary="Branches that are folded into their result.",
            load=_subagent,
            config=_subagent_settings,
        ),
        ContextStrategySpec(
            name="model-decides",
            summary="The policy asks for compaction.",
            load=_model_decides,
            config=_model_decides_settings,
        ),
    ]
