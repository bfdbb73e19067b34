"""An answer that comes late, to a call of many turns ago, is in a prompt before any strategy takes it away."""

from itertools import pairwise

import pytest
from tests.agents.context.talking import Summaries, Talk

from tumbler.contracts.values import ToolCall
from tumbler_agents.context.mask_observations import MaskObservations, MaskObservationsSettings
from tumbler_agents.context.mask_then_summary import MaskThenSummary, MaskThenSummarySettings
from tumbler_agents.context.offload_output import OffloadOutput, OffloadOutputSettings
from tumbler_agents.context.reset_with_handoff import ResetWithHandoff, ResetWithHandoffSettings
from tumbler_agents.context.retrieval import Retrieval, RetrievalSettings
from tumbler_agents.context.subagent import Subagent, SubagentSettings
from tumbler_agents.context.summary import SummarySettings, SummaryStrategy
from tumbler_agents.context.truncate_output import TruncateOutput, TruncateOutputSettings
from tumbler_agents.context.window import Window, WindowSettings

LATE = "late answer"


def window():
    return Window(WindowSettings(keep_first=0, keep_last=1))


def mask():
    return MaskObservations(MaskObservationsSettings(keep=1, poll=3))


PIPELINES = {
    "window": lambda: [window()],
    "mask-observations": lambda: [mask()],
    "reset-with-handoff": lambda: [ResetWithHandoff(ResetWithHandoffSettings(note_tokens=200))],
    "summary": lambda: [SummaryStrategy(SummarySettings(keep_last=1, instructions="Sum up."))],
    "mask-then-summary": lambda: [
        MaskThenSummary(MaskThenSummarySettings(keep_last=1, keep_outputs=1, instructions="Sum up."))
    ],
    "mask-observations, window": lambda: [mask(), window()],
    "offload-output, window": lambda: [
        OffloadOutput(OffloadOutputSettings(max_tokens=400, preview_tokens=200)),
        window(),
    ],
    "truncate-output, subagent, window, retrieval": lambda: [
        TruncateOutput(TruncateOutputSettings(max_tokens=400)),
        Subagent(SubagentSettings()),
        window(),
        Retrieval(RetrievalSettings(max_tokens=200)),
    ],
}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("turns", range(4, 20))
@pytest.mark.parametrize("calls", [1, 3])
async def test_a_late_answer_is_shown_once_whenever_it_comes(name, turns, calls):
    talk = Talk(*PIPELINES[name]())
    await talk.turns(2)
    await talk.prompt()
    *others, late = talk.reply("start the jobs", calls)
    for call in others:
        talk.answer(call, "done")
    await talk.turns(turns, start=10)
    talk.answer(late, LATE)
    assert LATE in await talk.prompt()
    assert talk.checks == []


@pytest.mark.parametrize("name", PIPELINES)
async def test_once_seen_a_late_answer_goes_like_any_other(name):
    talk = Talk(*PIPELINES[name](), context=3000 if name == "mask-observations" else 2000)
    await talk.prompt()
    (late,) = talk.reply("start", 1)
    await talk.turns(8)
    talk.answer(late, f"{LATE} " + "x" * 100)
    prompts = await talk.turns(30, start=20)
    assert any(LATE in content for content in prompts[0])
    assert not any(LATE in content for content in prompts[-1])


async def test_an_answer_that_comes_when_its_branch_is_folded_stays():
    talk = Talk(Subagent(SubagentSettings()), context=4000)
    await talk.call("branch", task="search")
    await talk.turns(4)
    await talk.prompt()
    (late,) = talk.reply("a job", 1)
    await talk.turns(4, start=10)
    await talk.prompt()
    ids = talk.reply("done", 1)
    answer = await talk.log.call(ToolCall(name="return_result", arguments={"text": "R"}))
    talk.answer(ids[0], answer.text)
    talk.answer(late, LATE)
    shown = await talk.prompt()
    assert "Result of branch 1 (search):\nR" in shown
    assert LATE in shown
    assert "step 11" not in shown


@pytest.mark.parametrize("name", ["window", "summary", "reset-with-handoff"])
async def test_what_is_new_and_too_long_is_cut_by_little_more_than_it_must_be(name):
    """A token more in an output costs a token of what is shown of it, or the tenth that keeps the next turn free."""
    shown, room = [], 1900 - 100
    for size in range(1000, 2600, 40):
        talk = Talk(*PIPELINES[name](), model=Summaries(say=lambda _: "so far so good"))
        await talk.turns(5)
        await talk.prompt()
        talk.turn("survey", "line of output\n" * (size // 15))
        newest = (await talk.prompt())[-1]
        shown.append(len(newest))
        assert len(newest) >= min(size // 15 * 15, 0.6 * room)
    assert all(later >= 0.85 * earlier for earlier, later in pairwise(shown))
