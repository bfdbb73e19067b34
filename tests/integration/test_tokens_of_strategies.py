"""Whatever the context strategies do: what the engine was given and returned is recorded token by token."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from tests.integration.tokens_episodes import OddCharacters, play, require_exact

from tumbler.config import NoSettings
from tumbler.contracts.context import ContextStrategy, StrategyWithTools
from tumbler.trajectory import Trajectory
from tumbler_agents.context.mask_observations import MaskObservations, MaskObservationsSettings
from tumbler_agents.context.mask_then_summary import MaskThenSummary, MaskThenSummarySettings
from tumbler_agents.context.memory_files import MemoryFiles, MemoryFilesSettings
from tumbler_agents.context.model_decides import ModelDecides, ModelDecidesSettings
from tumbler_agents.context.none import NoStrategy
from tumbler_agents.context.notes import Notes, NotesSettings
from tumbler_agents.context.offload_output import OffloadOutput, OffloadOutputSettings
from tumbler_agents.context.reset_with_handoff import ResetWithHandoff, ResetWithHandoffSettings
from tumbler_agents.context.retrieval import Retrieval, RetrievalSettings
from tumbler_agents.context.subagent import Subagent, SubagentSettings
from tumbler_agents.context.summary import SummarySettings, SummaryStrategy
from tumbler_agents.context.todo import Todo, TodoSettings
from tumbler_agents.context.truncate_output import TruncateOutput, TruncateOutputSettings
from tumbler_agents.context.window import Window, WindowSettings

EPISODES = 200
Maker = Callable[[], ContextStrategy]


def truncate() -> ContextStrategy:
    return TruncateOutput(TruncateOutputSettings(max_tokens=150))


def offload() -> ContextStrategy:
    return OffloadOutput(OffloadOutputSettings(max_tokens=300, preview_tokens=150))


def mask() -> ContextStrategy:
    return MaskObservations(MaskObservationsSettings(keep=1, poll=2))


def window() -> ContextStrategy:
    return Window(WindowSettings(keep_first=1, keep_last=2, threshold=(0.6, 0.9)))


def handoff() -> ContextStrategy:
    return ResetWithHandoff(ResetWithHandoffSettings(threshold=0.7, note_tokens=120))


def retrieval() -> ContextStrategy:
    return Retrieval(RetrievalSettings(max_tokens=200, passage_tokens=80, min_score=0.5))


def summary() -> ContextStrategy:
    return SummaryStrategy(SummarySettings(threshold=0.75, keep_last=2, max_tokens=200))


def mask_then_summary() -> ContextStrategy:
    return MaskThenSummary(MaskThenSummarySettings(threshold=0.75, keep_last=2, keep_outputs=1, max_tokens=200))


def todo() -> ContextStrategy:
    return Todo(TodoSettings(every=2))


def todo_at_the_end() -> ContextStrategy:
    return Todo(TodoSettings(every=2, place="end"))


def notes() -> ContextStrategy:
    return Notes(NotesSettings(max_notes=4))


def memory() -> ContextStrategy:
    return MemoryFiles(MemoryFilesSettings())


def subagent() -> ContextStrategy:
    return Subagent(SubagentSettings(recall=3))


def model_decides() -> ContextStrategy:
    return ModelDecides(ModelDecidesSettings(minimum=0.1))


PIPELINES: dict[str, list[Maker]] = {
    "none": [lambda: NoStrategy(NoSettings())],
    "truncate-output": [truncate],
    "offload-output": [offload],
    "mask-observations": [mask],
    "window": [window],
    "reset-with-handoff": [handoff],
    "retrieval": [retrieval],
    "summary": [summary],
    "mask-then-summary": [mask_then_summary],
    "todo": [todo],
    "todo-at-the-end": [todo_at_the_end],
    "notes": [notes],
    "memory-files": [memory],
    "subagent": [subagent],
    "model-decides": [model_decides],
    "truncated-window-todo": [truncate, window, todo],
    "offloaded-retrieval": [offload, window, retrieval],
    "branches-summary-memory": [subagent, mask_then_summary, memory],
    "asked-summary-notes": [model_decides, summary, notes],
    "handoff-at-the-end": [handoff, todo_at_the_end],
}


def context_of(strategies: list[ContextStrategy]) -> int:
    """Return a context that is filled in some turns, the tools' descriptions being part of every prompt."""
    tools = [spec for each in strategies if isinstance(each, StrategyWithTools) for spec in each.tools()]
    return 3000 + sum(len(repr(spec)) for spec in tools)


@pytest.mark.parametrize("name", PIPELINES)
async def test_each_token_is_recorded_once_behind_the_prompt_it_was_sampled_from(name: str) -> None:
    seen: Counter[str] = Counter()
    strategies = [make() for make in PIPELINES[name]]
    tokenizer = OddCharacters(context_of(strategies))
    for seed in range(EPISODES):
        played = await play(strategies, seed, tokenizer=tokenizer, odd=tokenizer.odd)
        try:
            require_exact(played)
        except AssertionError as error:
            raise AssertionError(f"episode {seed} of {name}") from error
        seen.update(features(played.trajectory))
    wanted = {"parallel", "retry", "sub-agent", "abort", "length", "stop", "several calls"}
    if any(each.caps.rewrites != "never" for each in strategies):
        wanted.add("main rewritten")
    if any(each.caps.calls_model for each in strategies):
        wanted |= {"strategy", "summary trained", "summary withheld"}
    if any(isinstance(each, StrategyWithTools) for each in strategies):
        wanted.add("tool of a strategy")
    assert wanted <= set(seen), f"the episodes tried nothing of {wanted - set(seen)}"
    if any(each.caps.bounded for each in strategies):
        assert "context_overflow" not in seen


def features(trajectory: Trajectory) -> Iterator[str]:
    """Return what an episode has tried."""
    yield trajectory.status_reason
    for segment in trajectory.segments:
        yield segment.cause
        if (segment.agent_id, segment.cause) == ("main", "rewrite"):
            yield "main rewritten"
    for chunk in trajectory.chunks:
        yield chunk.finish_reason
        if "/" in trajectory.segments[chunk.segment].agent_id:
            yield "summary trained" if chunk.trainable else "summary withheld"
        if len(chunk.tool_calls) > 1:
            yield "several calls"
        if any(call.name not in ("read", "fail") for call in chunk.tool_calls):
            yield "tool of a strategy"
