"""`summary`: what is older is summed up, whatever the conversation, and what must not be lost is not."""

from itertools import pairwise
from random import Random

import pytest
from pydantic import ValidationError
from tests.agents.context.talking import ROOM, SYSTEM, TASK, Summaries, Talk, entry, view

from tumbler.contracts.context import Budget, Summarise
from tumbler.errors import ContextOverflowError, InferenceError
from tumbler.testing import sample_task
from tumbler_agents.context.leaving_out import NOTE
from tumbler_agents.context.summariser import INSTRUCTIONS
from tumbler_agents.context.summary import SummarySettings, SummaryStrategy

BRIEF = "Sum up."


def summary(**settings: object) -> SummaryStrategy:
    return SummaryStrategy(SummarySettings.model_validate({"instructions": BRIEF, **settings}))


async def test_nothing_happens_below_the_threshold() -> None:
    talk = Talk(summary(threshold=0.9))
    prompts = await talk.turns(10)
    assert len(prompts[-1]) == 2 + 2 * 9
    assert talk.model.prompts == []


async def test_the_middle_is_summed_up_and_the_ends_stay_word_for_word() -> None:
    talk = Talk(summary(keep_first=1, keep_last=2, threshold=0.8))
    last = (await talk.turns(15))[-1]
    assert last[:2] == [SYSTEM, TASK]
    assert last[2] == "step 0"
    assert last[4].endswith("SUMMARY")
    assert len(talk.model.prompts) == 1
    assert "step 1\n" in talk.model.prompts[0]
    assert "step 0\n" not in talk.model.prompts[0]
    assert talk.checks == []


async def test_the_task_is_told_to_the_summariser() -> None:
    talk = Talk(summary())
    await talk.turns(15)
    assert TASK in talk.model.prompts[0]


async def test_a_long_conversation_never_overflows_and_no_plan_is_refused() -> None:
    talk = Talk(summary())
    prompts = await talk.turns(200)
    assert len(prompts) == 200
    assert talk.checks == []
    assert len(talk.model.prompts) < 60


async def test_a_compaction_does_not_bring_about_the_next_one() -> None:
    talk = Talk(summary())
    asked = []
    for number in range(60):
        await talk.turns(1, start=number)
        asked.append(len(talk.model.prompts))
    made = [index for index, (before, after) in enumerate(pairwise(asked)) if after > before]
    assert min(later - earlier for earlier, later in pairwise(made)) > 2


async def test_a_refused_plan_leaves_the_conversation_and_gives_the_call_up() -> None:
    """A summary that another strategy's rewrites have made one too many is not trained on."""

    class Shrinking(SummaryStrategy):
        """Takes its own rewrites for none, so that the pipeline has to stop it."""

        async def plan(self, view, budget, state, why):
            state.update(last=-9, in_a_row=0)
            return await super().plan(view, budget, state, "user_request")

    settings = SummarySettings(keep_last=1, instructions=BRIEF)
    talk = Talk(Shrinking(settings))
    await talk.turns(12)
    assert "in-a-row" in talk.checks
    assert talk.refused


async def test_words_of_ours_in_a_message_change_nothing() -> None:
    talk = Talk(summary(keep_last=1), model=Summaries(say=lambda _: ""))
    talk.say(NOTE)
    await talk.turns(20)
    assert NOTE in (await talk.prompt())[2]
    assert sum(NOTE in content for content in await talk.prompt()) == 2


async def test_every_prompt_to_the_summariser_fits_also_with_long_instructions() -> None:
    talk = Talk(summary(instructions=INSTRUCTIONS), model=Summaries(prompt_limit=2000 - ROOM))
    await talk.turns(100)
    assert talk.model.prompts
    assert NOTE not in "".join(await talk.prompt())


async def test_a_window_that_is_smaller_than_was_said_is_met_with_shorter_prompts() -> None:
    talk = Talk(summary(), model=Summaries(prompt_limit=900))
    prompts = await talk.turns(20)
    assert talk.model.prompts
    assert "SUMMARY" in "".join(prompts[-1])


async def test_a_summary_of_summaries_keeps_what_the_earlier_one_says() -> None:
    def carry(prompt: str) -> str:
        facts = sorted({word for word in prompt.split() if word.startswith("fact-")})
        return " ".join(facts) or "nothing"

    talk = Talk(summary(keep_last=1), model=Summaries(say=carry))
    talk.turn("look", "fact-first")
    for round_number in range(6):
        await talk.turns(12, start=round_number * 12)
    assert len(talk.model.prompts) > 3
    assert "fact-first" in "".join(await talk.prompt())


async def test_the_source_is_read_piece_by_piece_where_it_does_not_fit_one_prompt() -> None:
    talk = Talk(summary(keep_last=1, threshold=1.0, instructions="Sum up. " * 100), context=2000)
    await talk.turns(9, size=200)
    assert 1 < len(talk.model.prompts) <= 4
    assert "SUMMARY" in talk.model.prompts[1]
    assert "output 0 " in talk.model.prompts[0]
    assert "output 6 " in talk.model.prompts[-1]


@pytest.mark.parametrize("said", ["", "  \n", "\N{ZERO WIDTH SPACE}" * 0])
async def test_an_empty_summary_becomes_a_note(said: str) -> None:
    talk = Talk(summary(), model=Summaries(say=lambda _: said))
    prompts = await talk.turns(30)
    assert sum(NOTE in content for content in prompts[-1]) == 1


async def test_a_summary_that_is_cut_off_says_so() -> None:
    talk = Talk(summary(), model=Summaries(say=lambda _: "y" * 5000))
    prompts = await talk.turns(15)
    assert any("yyy" in content and content.endswith("[the summary was cut off here]") for content in prompts[-1])


async def test_a_summary_that_the_engine_breaks_off_becomes_a_note() -> None:
    talk = Talk(summary(), model=Summaries(finish_reason="abort"))
    assert NOTE in (await talk.turns(15))[-1]


async def test_a_summary_that_is_longer_than_its_source_becomes_a_note() -> None:
    class Unbounded(Summaries):
        async def __call__(self, messages, *, agent_id, max_tokens, trainable):
            return await super().__call__(messages, agent_id=agent_id, max_tokens=None, trainable=trainable)

    talk = Talk(summary(), model=Unbounded(say=lambda _: "z" * 3000))
    assert NOTE in (await talk.turns(15))[-1]
    assert talk.checks == []


async def test_a_failed_summary_leaves_the_earlier_one_in_view() -> None:
    answers = iter(["the key is 4711"])
    talk = Talk(summary(), model=Summaries(say=lambda _: next(answers, "")))
    await talk.turns(60)
    shown = await talk.prompt()
    assert len(talk.model.prompts) > 2
    assert any("the key is 4711" in content for content in shown)
    assert shown.count(NOTE) == 1


async def test_a_failure_of_the_infrastructure_is_raised_and_never_taken_for_an_empty_summary() -> None:
    def fail(_prompt: str) -> str:
        raise InferenceError("the engine is gone")

    talk = Talk(summary(), model=Summaries(say=fail))
    with pytest.raises(InferenceError):
        await talk.turns(30)


async def test_another_failure_becomes_a_note() -> None:
    def overflow(_prompt: str) -> str:
        raise ContextOverflowError("no room")

    talk = Talk(summary(), model=Summaries(say=overflow))
    assert NOTE in (await talk.turns(15))[-1]


async def test_what_the_user_says_in_between_stays_word_for_word() -> None:
    talk = Talk(summary(keep_last=1))
    await talk.turns(3)
    talk.say("Never touch main.py.")
    await talk.turns(60, start=3)
    assert talk.model.prompts
    assert "Never touch main.py." in await talk.prompt()


async def test_the_user_cannot_fill_the_window_with_words() -> None:
    talk = Talk(summary(), model=Summaries(say=lambda _: "S"))
    for number in range(100):
        await talk.prompt()
        talk.say(f"remark {number} " + "w" * 80)
        talk.turn("ok", "fine")
    assert talk.checks == []
    assert "remark 99" in "".join(await talk.prompt())


async def test_answers_to_parallel_calls_stay_with_their_reply() -> None:
    talk = Talk(summary(keep_last=1))
    for number in range(20):
        shown = await talk.prompt()
        ids = talk.reply(f"both {number}", 2)
        for call in reversed(ids):
            talk.answer(call, f"answer {number} {call} " + "x" * 60)
        for index in range(20):
            assert (f"both {index}" in shown) == (sum(f"answer {index} " in content for content in shown) == 2)
    assert talk.model.prompts


async def test_an_exchange_with_an_open_call_is_never_touched() -> None:
    talk = Talk(summary(keep_last=1), context=1200)
    await talk.turns(6)
    first, second = talk.reply("two at once", 2)
    talk.answer(first, "x" * 300)
    talk.log.request("tool_request")
    shown = await talk.prompt()
    assert "two at once" in shown
    talk.answer(second, "y" * 300)
    assert "two at once" in await talk.prompt()


async def test_one_exchange_larger_than_the_window_is_cut_and_its_end_is_seen() -> None:
    talk = Talk(summary())
    await talk.turns(5)
    talk.turn("cat everything", "HEAD" + "x" * 10_000 + "TAIL")
    shown = "".join(await talk.prompt())
    assert "HEAD" in shown
    assert "TAIL" in shown
    assert "tokens in 1 line left out" in shown


async def test_outputs_larger_than_the_window_at_every_turn_do_not_end_the_episode() -> None:
    talk = Talk(summary())
    for number in range(12):
        await talk.prompt()
        talk.turn(f"cat {number}", "x" * 3000)
    assert "cat 11" in await talk.prompt()


async def test_pinned_entries_that_fill_the_window_end_in_a_typed_error() -> None:
    talk = Talk(summary(), context=400)
    talk.turn("go", "ok")
    talk.log.append(talk.log.entries[1].message.__class__(role="user", content="p" * 400), pinned=True)
    with pytest.raises(ContextOverflowError):
        await talk.prompt()


async def test_a_window_nearly_filled_by_the_task_does_not_ask_for_a_summary_at_every_turn() -> None:
    talk = Talk(summary(threshold=0.5))
    talk.log.append(talk.log.entries[1].message.__class__(role="user", content="p" * 1300), pinned=True)
    await talk.turns(40, size=5)
    assert len(talk.model.prompts) < 12


@pytest.mark.parametrize("why", ["tool_request", "user_request"])
async def test_it_sums_up_on_request(why: str) -> None:
    talk = Talk(summary(keep_last=1))
    await talk.turns(6)
    talk.log.request(why)  # type: ignore[arg-type]
    assert "SUMMARY" in "".join(await talk.prompt())


@pytest.mark.parametrize("trainable", [True, False])
async def test_whether_summaries_are_trained_is_passed_on(trainable: bool) -> None:
    talk = Talk(summary(trainable=trainable))
    await talk.turns(15)
    assert talk.model.trainable == [trainable]
    assert talk.model.agents == ["SummaryStrategy/summarizer"]


async def test_nothing_is_said_to_be_the_models_words_but_its_reply() -> None:
    """The note is nobody's; the pipeline raises where a reply is not what the summary holds."""
    talk = Talk(summary(), model=Summaries(say=lambda _: "   padded   "))
    assert "   padded   " in "".join((await talk.turns(15))[-1])


def test_a_threshold_from_a_range_is_equal_within_a_group() -> None:
    strategy = summary(threshold=[0.5, 0.9])
    drawn = [strategy.threshold(strategy.start(sample_task(), Random(seed))) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(0.5 <= share <= 0.9 for share in drawn)


@pytest.mark.parametrize("threshold", [0, 1.5, [0.9, 0.5], [0.5]])
def test_a_threshold_that_is_none_is_refused(threshold: object) -> None:
    with pytest.raises(ValidationError):
        summary(threshold=threshold)


def test_the_instructions_name_what_must_not_be_lost() -> None:
    for word in ("task", "rule", "todo", "sub-agent", "Files", "Next steps", "earlier summary"):
        assert word in INSTRUCTIONS


async def test_a_view_without_a_model_gets_a_note_at_the_price_of_bytes() -> None:
    """Where there is no tokenizer, a text counts as its bytes: never fewer than it has tokens."""
    entries = [entry(0, "Zähle 🗂", pinned=True)]
    for number in range(1, 21, 2):
        entries.append(entry(number, "ö" * 50, role="assistant", sampled=True, exchange=number, shown=True))
        entries.append(entry(number + 1, "🗂" * 50, exchange=number, shown=True))
    shown = view(*entries)
    strategy, used = summary(keep_last=1), sum(each.tokens for each in entries)
    plan = await strategy.plan(
        shown, Budget(limit=1000, used=used), strategy.start(sample_task(), Random(0)), "overflow"
    )
    (edit,) = plan.edits
    assert isinstance(edit, Summarise)
    assert (edit.text, edit.call) == (NOTE, None)
