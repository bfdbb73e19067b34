"""Whatever the conversation, the plans of the strategies keep the pipeline's checks, and what is pinned stays."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as draw
from tests.agents.context.conversations import events, least, live, openings
from tests.agents.context.talking import ROOM, Summaries, Talk

from tumbler.contracts.values import ToolCall
from tumbler.errors import ContextOverflowError
from tumbler_agents.context.mask_then_summary import MaskThenSummary, MaskThenSummarySettings
from tumbler_agents.context.model_decides import ModelDecides, ModelDecidesSettings
from tumbler_agents.context.notes import Notes, NotesSettings
from tumbler_agents.context.subagent import Subagent, SubagentSettings
from tumbler_agents.context.summary import SummarySettings, SummaryStrategy
from tumbler_agents.context.todo import Todo, TodoSettings

CONTEXT = 1500
said = draw.sampled_from(["", " ", "S", "summary 🗂", "s" * 400])


def unopened(*several, say):
    model = Summaries(say=lambda _: say, prompt_limit=CONTEXT - ROOM)
    return Talk(*several, context=CONTEXT, model=model, opened=False)


def strategies():
    summary = {"instructions": "Sum up.", "keep_first": 1, "keep_last": 2}
    return {
        "summary": [SummaryStrategy(SummarySettings(**summary))],
        "mask-then-summary": [MaskThenSummary(MaskThenSummarySettings(**summary))],
        "all": [
            Subagent(SubagentSettings()),
            MaskThenSummary(MaskThenSummarySettings(**summary)),
            ModelDecides(ModelDecidesSettings(minimum=0.1)),
            Todo(TodoSettings(every=2)),
            Notes(NotesSettings()),
        ],
    }


@pytest.mark.parametrize("name", strategies())
@settings(max_examples=120, deadline=None)
@given(opening=openings, happenings=events, summary=said)
async def test_a_ragged_conversation_breaks_no_check(name, opening, happenings, summary):
    talk = unopened(*strategies()[name], say=summary)
    views = await live(talk.log, opening, happenings)
    for view in views:
        assert [message.content for message in view[:2]] == ["Be brief.", opening]
    assert json.loads(json.dumps(talk.log.snapshot())) == talk.log.snapshot()


@settings(max_examples=200, deadline=None)
@given(opening=openings, happenings=events, summary=said)
async def test_a_summary_bounds_every_conversation_whose_newest_part_fits(opening, happenings, summary):
    talk = unopened(*strategies()["summary"], say=summary)
    views = await live(talk.log, opening, happenings)
    opened = sum(1 for kind, *_ in happenings if kind == "open")
    if len(views) < 1 + len(happenings) + opened:
        assert least(talk.log.entries) > CONTEXT - ROOM or "in-a-row" in talk.checks or "progress" in talk.checks


calls = draw.one_of(
    draw.builds(
        lambda task: ToolCall(name="branch", arguments={"task": task}), draw.sampled_from(["a", "find\nit", ""])
    ),
    draw.builds(
        lambda text: ToolCall(name="return_result", arguments={"text": text}), draw.sampled_from(["r", "x" * 99])
    ),
    draw.just(ToolCall(name="compact", arguments={"reason": "done"})),
    draw.just(ToolCall(name="todo_write", arguments={"items": [{"text": "look"}]})),
    draw.just(ToolCall(name="note_write", arguments={"name": "n", "text": "fact"})),
)


@settings(max_examples=150, deadline=None)
@given(steps=draw.lists(draw.lists(calls, max_size=3), max_size=20), size=draw.sampled_from([10, 150, 900]))
async def test_the_strategies_tools_in_any_order_break_no_check(steps, size):
    talk = Talk(*strategies()["all"], context=CONTEXT)
    for made in steps:
        try:
            await talk.prompt()
        except ContextOverflowError:
            return
        if made:
            await talk.calls(*made)
        else:
            talk.turn("step", "x" * size)
    assert json.loads(json.dumps(talk.log.snapshot())) == talk.log.snapshot()
