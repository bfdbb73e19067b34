"""What is compared: the strategies as they would be configured for a small window, and the controls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from experiments.context.controls import Blind, OracleKeep, RandomDrop

from tumbler.contracts.context import ContextStrategy
from tumbler.rollout.context import NamedStrategy
from tumbler_agents.context.mask_observations import MaskObservations, MaskObservationsSettings
from tumbler_agents.context.mask_then_summary import MaskThenSummary, MaskThenSummarySettings
from tumbler_agents.context.memory_files import MemoryFiles, MemoryFilesSettings
from tumbler_agents.context.model_decides import ModelDecides, ModelDecidesSettings
from tumbler_agents.context.notes import Notes, NotesSettings
from tumbler_agents.context.offload_output import OffloadOutput, OffloadOutputSettings
from tumbler_agents.context.reset_with_handoff import ResetWithHandoff, ResetWithHandoffSettings
from tumbler_agents.context.retrieval import Retrieval, RetrievalSettings
from tumbler_agents.context.subagent import Subagent, SubagentSettings
from tumbler_agents.context.summary import SummarySettings, SummaryStrategy
from tumbler_agents.context.todo import Todo, TodoSettings
from tumbler_agents.context.truncate_output import TruncateOutput, TruncateOutputSettings
from tumbler_agents.context.window import Window, WindowSettings

__all__ = ["ARMS", "CEILING", "ROOM", "WINDOW", "Arm"]

WINDOW: Final = 3300
"""The context of all arms but the ceiling, in tokens; a raw episode has about 8000."""
ROOM: Final = 300
"""Tokens kept for a reply."""
_UNLIMITED: Final = 100_000
_KEPT_FACTS: Final = 6
"""How many facts the scripted summariser keeps."""
_FEW_FACTS: Final = 2
_ALL_FACTS: Final = 1000
_LONG: Final = 600
"""Tokens from which an output is long: twice an item's."""
_PREVIEW: Final = 200
_NOTE_TOKENS: Final = 256
_KEEP: Final = 3


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A pipeline of strategies."""

    name: str
    build: Callable[[], Sequence[tuple[str, ContextStrategy]]] = tuple
    window: int = WINDOW
    facts: int = _KEPT_FACTS
    control: bool = False

    def strategies(self) -> list[NamedStrategy]:
        """Return the strategies in their order."""
        return [NamedStrategy(name=name, strategy=strategy) for name, strategy in self.build()]


def _window() -> tuple[str, ContextStrategy]:
    return "window", Window(WindowSettings(keep_first=1, keep_last=_KEEP))


def _summary() -> tuple[str, ContextStrategy]:
    return "summary", SummaryStrategy(SummarySettings(keep_last=_KEEP, max_tokens=_NOTE_TOKENS))


def _mask() -> tuple[str, ContextStrategy]:
    return "mask-observations", MaskObservations(MaskObservationsSettings(keep=_KEEP, poll=_KEEP))


def _mask_then_summary() -> tuple[str, ContextStrategy]:
    settings = MaskThenSummarySettings(keep_last=_KEEP, keep_outputs=_KEEP, max_tokens=_NOTE_TOKENS)
    return "mask-then-summary", MaskThenSummary(settings)


def _handoff() -> tuple[str, ContextStrategy]:
    return "reset-with-handoff", ResetWithHandoff(ResetWithHandoffSettings(note_tokens=_NOTE_TOKENS))


def _truncate() -> tuple[str, ContextStrategy]:
    return "truncate-output", TruncateOutput(TruncateOutputSettings(max_tokens=_LONG))


def _offload() -> tuple[str, ContextStrategy]:
    return "offload-output", OffloadOutput(OffloadOutputSettings(max_tokens=_LONG, preview_tokens=_PREVIEW))


def _retrieval() -> tuple[str, ContextStrategy]:
    return "retrieval", Retrieval(RetrievalSettings())


def _todo() -> tuple[str, ContextStrategy]:
    return "todo", Todo(TodoSettings())


def _notes() -> tuple[str, ContextStrategy]:
    return "notes", Notes(NotesSettings())


def _memory() -> tuple[str, ContextStrategy]:
    return "memory-files", MemoryFiles(MemoryFilesSettings())


def _subagent() -> tuple[str, ContextStrategy]:
    return "subagent", Subagent(SubagentSettings())


def _decides() -> tuple[str, ContextStrategy]:
    return "model-decides", ModelDecides(ModelDecidesSettings())


CEILING: Final = Arm(name="ceiling", window=_UNLIMITED, control=True)
ARMS: Final = (
    CEILING,
    Arm(name="oracle keep", build=lambda: [("oracle", OracleKeep())], control=True),
    Arm(name="random drop", build=lambda: [("random", RandomDrop())], control=True),
    Arm(name="blind", build=lambda: [("blind", Blind())], control=True),
    Arm(name="none"),
    Arm(name="window", build=lambda: [_window()]),
    Arm(name="truncate-output, window", build=lambda: [_truncate(), _window()]),
    Arm(name="offload-output, window", build=lambda: [_offload(), _window()]),
    Arm(name="mask-observations", build=lambda: [_mask()]),
    Arm(name="reset-with-handoff", build=lambda: [_handoff()]),
    Arm(name="summary", build=lambda: [_summary()]),
    Arm(name="summary that keeps two facts", build=lambda: [_summary()], facts=_FEW_FACTS),
    Arm(name="summary that keeps every fact", build=lambda: [_summary()], facts=_ALL_FACTS),
    Arm(name="mask-then-summary", build=lambda: [_mask_then_summary()]),
    Arm(name="window, retrieval", build=lambda: [_window(), _retrieval()]),
    Arm(name="window, todo", build=lambda: [_window(), _todo()]),
    Arm(name="window, notes", build=lambda: [_window(), _notes()]),
    Arm(name="window, memory-files", build=lambda: [_window(), _memory()]),
    Arm(name="window, subagent", build=lambda: [_window(), _subagent()]),
    Arm(name="window, model-decides", build=lambda: [_window(), _decides()]),
    Arm(name="offload-output, window, retrieval", build=lambda: [_offload(), _window(), _retrieval()]),
    Arm(name="mask-observations, notes", build=lambda: [_mask(), _notes()]),
    Arm(name="mask-then-summary, notes", build=lambda: [_mask_then_summary(), _notes()]),
    Arm(name="offload-output, summary, notes, todo", build=lambda: [_offload(), _summary(), _notes(), _todo()]),
)
"""In the order of the tables; the first is the ceiling."""
