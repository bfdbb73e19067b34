from random import Random

import pytest
from hypothesis import given, settings
from tests.agents.context.conversations import (
    FAILED,
    TOO_LONG,
    FakeIO,
    Talk,
    as_summary,
    count_words,
    events,
    least,
    live,
    openings,
    pipeline,
    plan,
    prompts,
    refused_as_a_rewrite,
)

from tumbler.contracts.agent import Reply
from tumbler.contracts.context import Replace, StrategyReply, Summarise, View
from tumbler.contracts.values import Message
from tumbler.errors import InferenceError
from tumbler.rollout.sources import ExpertSilentError
from tumbler.testing import ContextStrategySuite, sample_task
from tumbler_agents.context.reset_with_handoff import ResetWithHandoff, ResetWithHandoffSettings

OUTPUT = "some words of an output " * 10
NOTE = "Counted 12 sheep in /field/a. Next: /field/b."


def reset(**fields):
    return ResetWithHandoff(ResetWithHandoffSettings(**{"note_tokens": 60, **fields}))


def talk_of(*replies, turns=6, **fields):
    talk = Talk(FakeIO(*replies), **fields)
    for number in range(turns):
        talk.turn(f"$ cat {number}", f"{number} {OUTPUT}")
    return talk


def exchange_ids(talk, *exchanges):
    return tuple(entry.id for entry in talk.entries if entry.exchange in exchanges)


class TestResetWithHandoff(ContextStrategySuite):
    @pytest.fixture
    def strategy(self):
        return reset()


async def test_all_exchanges_go_for_the_models_note():
    talk = talk_of(NOTE)
    (edit,) = await plan(reset(), talk, limit=talk.used)
    assert isinstance(edit, Summarise) and edit.call == 1
    assert edit.ids == exchange_ids(talk, 1, 2, 3, 4, 5, 6)
    assert edit.text.endswith(f"\n\n{NOTE}")


async def test_the_model_sees_the_conversation_and_then_the_question():
    talk = talk_of(NOTE)
    await plan(reset(), talk, limit=2 * talk.used, why="user_request")
    ((messages, tokens, trainable),) = talk.io.asked
    assert messages[:-1] == [entry.message for entry in talk.entries[:-1]]
    assert messages[-1].role == "user"
    assert messages[-1].content.startswith(f"5 {OUTPUT}\n\nThe context is nearly full.")
    assert (tokens, trainable) == (60, True)


async def test_the_question_is_a_message_of_its_own_after_a_tools_or_the_policys():
    talk = talk_of(NOTE)
    talk.turn("Done.")
    await plan(reset(trainable=False), talk, limit=2 * talk.used, why="tool_request")
    ((messages, _, trainable),) = talk.io.asked
    assert [message.role for message in messages[-2:]] == ["assistant", "user"] and not trainable


@pytest.mark.parametrize(
    "reply",
    [
        "",
        " \n",
        "<think>hm</think>\n",
        "<think>never ends",
        ExpertSilentError("main/handoff"),
        StrategyReply(text="x", call=0, finish_reason="abort"),
    ],
)
async def test_without_a_note_the_newest_exchanges_stay(reply):
    talk = talk_of(reply)
    (edit,) = await plan(reset(), talk, limit=talk.used)
    assert edit == Summarise(ids=exchange_ids(talk, 1, 2, 3, 4), text="[4 earlier steps left out]")


async def test_a_failure_of_the_infrastructure_is_raised_and_never_taken_for_an_empty_note():
    talk = talk_of(FAILED)
    with pytest.raises(InferenceError):
        await plan(reset(), talk, limit=talk.used)


async def test_a_conversation_too_long_for_the_model_is_shown_without_its_oldest_steps():
    talk = talk_of(NOTE)
    (edit,) = await plan(reset(), talk, limit=talk.used - 1, why="overflow")
    assert NOTE in edit.text
    ((messages, *_),) = talk.io.asked
    assert sum(count_words(message.content) for message in messages) <= talk.used - 1
    assert "earlier steps left out]" in messages[2].content and messages[-1].content.startswith("5 ")


async def test_it_asks_again_with_less_and_then_gives_up():
    talk = talk_of(TOO_LONG, NOTE)
    (edit,) = await plan(reset(), talk, limit=talk.used)
    assert NOTE in edit.text
    longer, shorter = (sum(len(message.content) for message in asked[0]) for asked in talk.io.asked)
    assert shorter < longer
    talk = talk_of(TOO_LONG, TOO_LONG)
    (edit,) = await plan(reset(), talk, limit=talk.used)
    assert edit.text == "[4 earlier steps left out]" and edit.call is None


async def test_a_note_that_does_not_end_is_cut_and_says_so():
    talk = talk_of(StrategyReply(text="on and on", call=7, finish_reason="length"))
    (edit,) = await plan(reset(), talk, limit=talk.used)
    assert edit.text.endswith("on and on\n[The note was too long and is cut off here.]") and edit.call == 7


async def test_a_note_longer_than_it_may_be_is_cut_and_is_no_longer_the_models_words():
    talk = talk_of("on and on " * 100)
    (edit,) = await plan(reset(), talk, limit=talk.used)
    assert count_words(edit.text) < 60 + 70 and edit.call is None


@pytest.mark.parametrize("thinking", ["<think>\nhm\n</think>\n\n", "hm\n</think>\n\n"])
async def test_what_the_model_thinks_is_not_part_of_the_note(thinking):
    talk = talk_of(thinking + NOTE)
    (edit,) = await plan(reset(), talk, limit=talk.used)
    assert edit.text.endswith(f"\n\n{NOTE}") and "hm" not in edit.text and edit.call is None


async def test_earlier_notes_and_summaries_go_into_the_new_one():
    talk = Talk(FakeIO(NOTE))
    for text in ("The note that you wrote: sheep.", "[3 earlier steps left out]"):
        talk.entries[-1:] = [talk.entries[-1], as_summary(talk.say(text))]
        del talk.entries[-2]
    talk.entries.sort(key=lambda entry: entry.id)
    for number in range(5):
        talk.turn(f"$ cat {number}", OUTPUT)
    (edit,) = await plan(reset(), talk, limit=talk.used)
    summaries = {entry.id for entry in talk.entries if entry.summary}
    assert len(summaries) == 2 and summaries <= set(edit.ids)
    assert any("sheep." in message.content for message in talk.io.asked[0][0][2:])


async def test_what_users_said_stays_word_for_word_unless_it_is_long_ago_and_long():
    talk = talk_of(NOTE, turns=3)
    old = talk.say(OUTPUT * 2)
    talk.turn("ok", OUTPUT)
    rule = talk.say("Never delete files.")
    talk.turn("ok", OUTPUT)
    (edit,) = await plan(reset(), talk, limit=talk.used)
    assert old.id in edit.ids and rule.id not in edit.ids


async def test_open_and_pinned_exchanges_stay():
    talk = talk_of(NOTE, turns=4)
    talk.exchange += 1
    talk.add("assistant", "look", exchange=talk.exchange, sampled=True, shown=True)
    talk.add("user", "pinned", exchange=talk.exchange, pinned=True, shown=True)
    talk.turn("both", "one", pending=True)
    (edit,) = await plan(reset(), talk, limit=talk.used)
    assert edit.ids == exchange_ids(talk, 1, 2, 3, 4)


async def test_nothing_is_asked_below_the_threshold_or_where_too_little_would_be_freed():
    talk = talk_of()
    assert await plan(reset(), talk, limit=2 * talk.used) == []
    talk = talk_of(task=OUTPUT * 100)
    assert await plan(reset(), talk, limit=talk.used) == []
    assert talk.io.asked == []


async def test_a_single_exchange_larger_than_the_budget_is_shortened_without_a_call():
    talk = Talk()
    (long,) = talk.turn("$ cat a", OUTPUT * 20, shown=False)
    (edit,) = await plan(reset(), talk, limit=300, why="overflow")
    assert isinstance(edit, Replace) and edit.id == long.id and talk.io.asked == []


async def test_without_a_model_to_ask_the_newest_exchanges_stay():
    talk = talk_of()
    strategy = reset()
    view = View(entries=talk.view.entries)
    planned = await strategy.plan(view, talk.budget(talk.used), strategy.start(sample_task(), Random(0)), "turn_end")
    assert planned.edits == [Summarise(ids=exchange_ids(talk, 1, 2, 3, 4), text="[4 earlier steps left out]")]


class Speaker:
    """A policy that writes odd notes, one after the other."""

    def __init__(self):
        self.calls = 0

    async def __call__(self, messages, *, agent_id, max_tokens, trainable):
        self.calls += 1
        text = ["note", "", "[2 earlier steps left out]", "n" * 400, "<think>x</think> note"][self.calls % 5]
        finish = "length" if len(text) > max_tokens else "stop"
        return Reply(text=text[:max_tokens], finish_reason=finish, chunk=self.calls)


@settings(max_examples=100, deadline=None)
@given(happenings=events, opening=openings)
async def test_whatever_happens_it_fits_or_no_plan_that_is_allowed_could_make_it_fit(happenings, opening):
    talk = pipeline(reset(note_tokens=200), context=1000, model=Speaker())
    views = await live(talk, opening, happenings)
    for view in views:
        assert view[1].content == opening
    assert len(views) == prompts(happenings) or least(talk.entries) > 900 or refused_as_a_rewrite(talk)


async def test_a_long_conversation_is_reset_again_and_again():
    speaker = Speaker()
    talk = pipeline(reset(note_tokens=200), context=2000, model=speaker)
    talk.append(Message(role="user", content="Look."), pinned=True)
    for number in range(100):
        talk.append(Message(role="assistant", content=f"$ cat {number}"), sampled=True)
        talk.append(Message(role="user", content=f"{number} {OUTPUT}"))
        await talk.messages()
    assert speaker.calls > 10 and talk.refusals == ()


async def test_no_note_is_asked_for_that_the_pipeline_would_refuse():
    talk = talk_of()
    await plan(reset(), talk, limit=talk.used, state={"threshold": 0.8, "in_a_row": 2})
    assert talk.io.asked == []


async def test_what_has_just_come_stays_beside_the_note_which_need_not_tell_of_it():
    talk = talk_of(NOTE, turns=4)
    talk.turn("$ cat b", f"new {OUTPUT}", shown=False)
    rule = talk.say("Never delete files.", shown=False)
    (edit,) = await plan(reset(), talk, limit=talk.used)
    assert edit.ids == exchange_ids(talk, 1, 2, 3, 4) and NOTE in edit.text
    asked = [message.content for message in talk.io.asked[0][0]]
    assert asked[-1].startswith(rule.message.content) and "$ cat b" not in asked


async def test_what_has_just_come_is_cut_so_far_that_the_note_has_room():
    talk = talk_of(NOTE, turns=4)
    (long,) = talk.turn("$ cat b", OUTPUT * 6, shown=False)
    replaced, summary = await plan(reset(), talk, limit=600, why="overflow")
    assert replaced.id == long.id and summary.ids == exchange_ids(talk, 1, 2, 3, 4)
    assert count_words(replaced.content) > 300


async def test_a_long_new_output_is_cut_where_there_is_little_else_to_leave_out():
    talk = Talk()
    talk.turn("look", "ok")
    (long,) = talk.turn("$ cat b", OUTPUT * 10, shown=False)
    (edit,) = await plan(reset(), talk, limit=400, why="overflow")
    assert isinstance(edit, Replace) and edit.id == long.id and talk.io.asked == []
