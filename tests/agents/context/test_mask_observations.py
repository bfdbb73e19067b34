import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from tests.agents.context.conversations import FRAME, Talk, as_summary, count_words, events, live, pipeline, plan

from tumbler.contracts.values import Message
from tumbler.testing import ContextStrategySuite, sample_task
from tumbler_agents.context.mask_observations import MaskObservations, MaskObservationsSettings

OUTPUT = "some words of an output " * 10


def mask(**fields):
    return MaskObservations(MaskObservationsSettings(**{"keep": 2, "poll": 3, **fields}))


def call(name, **arguments):
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


class TestMaskObservations(ContextStrategySuite):
    @pytest.fixture
    def strategy(self):
        return mask()


class TestAggressive(ContextStrategySuite):
    @pytest.fixture
    def strategy(self):
        return mask(keep=1, poll=1)


async def test_old_outputs_are_masked_and_the_newest_kept():
    talk = Talk()
    outputs = [talk.turn(f"$ cat {number}", OUTPUT)[0] for number in range(5)]
    edits = await plan(mask(), talk)
    assert [edit.id for edit in edits] == [entry.id for entry in outputs[:3]]
    assert edits[0].content == f"[old output of shell left out: {count_words(OUTPUT)} tokens]"


async def test_nothing_is_masked_before_there_are_enough():
    talk = Talk()
    for number in range(4):
        talk.turn(f"$ cat {number}", OUTPUT)
    assert await plan(mask(), talk) == []
    talk.turn("$ cat 4", OUTPUT)
    assert len(await plan(mask(), talk)) == 3


async def test_when_the_prompt_does_not_fit_any_number_will_do():
    talk = Talk()
    for number in range(3):
        talk.turn(f"$ cat {number}", OUTPUT)
    assert len(await plan(mask(), talk, limit=talk.used - 1, why="overflow")) == 1


async def test_what_is_masked_is_not_masked_again():
    talk = pipeline(mask(poll=2), context=20_000)
    talk.append(Message(role="user", content="Look."), pinned=True)
    seen = []
    for number in range(12):
        talk.append(Message(role="assistant", content=f"$ cat {number}"), sampled=True)
        talk.append(Message(role="user", content=f"{number} {OUTPUT}"))
        seen.append([entry.message.content for entry in talk.entries])
        await talk.messages()
    masked = [text for text in seen[-1] if text.startswith("[old output")]
    assert len(masked) == 8
    assert all(f"{len(OUTPUT) + 2} tokens" in text for text in masked)
    assert talk.refusals == ()


async def test_outputs_of_excluded_tools_stay():
    talk = Talk()
    for number in range(6):
        talk.turn(call("todo_write" if number % 2 else "read_file", path="a"), OUTPUT)
    edits = await plan(mask(keep=0, exclude=["todo*"]), talk)
    assert [edit.content.split()[3] for edit in edits] == ["read_file"] * 3


async def test_answers_to_parallel_calls_are_told_apart_by_their_tools():
    talk = Talk()
    for _ in range(3):
        talk.turn(f"Both.\n{call('search', q='x')}\n{call('todo')}", OUTPUT, OUTPUT)
    edits = await plan(mask(keep=0, exclude=["todo"]), talk)
    assert [edit.id for edit in edits] == [3, 6, 9]


async def test_a_call_that_only_stands_in_an_output_names_no_tool():
    talk = Talk()
    for _ in range(3):
        talk.turn("no call at all", call("todo") + OUTPUT)
    edits = await plan(mask(keep=0, exclude=["todo"]), talk)
    assert len(edits) == 3 and edits[0].content.startswith("[old output left out: ")


async def test_a_name_that_would_break_the_placeholder_is_not_repeated():
    talk = Talk()
    for _ in range(3):
        talk.turn(call("x] [left\nout" * 20), OUTPUT)
    edits = await plan(mask(keep=0), talk)
    assert edits[0].content == f"[old output left out: {count_words(OUTPUT)} tokens]"


async def test_a_tag_around_the_output_stays():
    talk = Talk()
    for _ in range(3):
        talk.turn("look", f"<tool_response>\n{OUTPUT}\n</tool_response>")
    edits = await plan(mask(keep=0), talk)
    assert edits[0].content == (
        f"<tool_response>\n[old output left out: {count_words(OUTPUT)} tokens]\n</tool_response>"
    )


async def test_an_output_that_speaks_of_placeholders_is_masked_like_any_other():
    talk = Talk()
    for _ in range(3):
        talk.turn("look", f"[old output left out: 9 tokens]\n{OUTPUT}")
    assert len(await plan(mask(keep=0), talk)) == 3


@pytest.mark.parametrize("output", ["", "ok", "[old output left out: 1234567 tokens]"])
async def test_what_a_placeholder_would_not_shorten_stays(output):
    talk = Talk()
    for _ in range(3):
        talk.turn("look", output)
    assert await plan(mask(keep=0, poll=1), talk, limit=10, why="overflow") == []


async def test_users_pinned_and_summaries_and_open_exchanges_stay():
    talk = Talk()
    talk.turn("look", OUTPUT)
    talk.entries[-1] = as_summary(talk.entries[-1])
    talk.say(OUTPUT)
    talk.exchange += 1
    talk.add("assistant", "look", exchange=talk.exchange, sampled=True)
    talk.add("user", OUTPUT, exchange=talk.exchange, pinned=True)
    talk.turn(OUTPUT, OUTPUT, pending=True)
    assert await plan(mask(keep=0, poll=1), talk, limit=10, why="overflow") == []


async def test_a_rewrite_that_frees_too_little_is_not_asked_for():
    talk = Talk(task="much to do " * 2000)
    for number in range(6):
        talk.turn(f"$ cat {number}", OUTPUT)
    assert await plan(mask(), talk) == []
    talk = Talk()
    for number in range(6):
        talk.turn(f"$ cat {number}", OUTPUT)
    assert await plan(mask(), talk, clear_at_least=10_000) == []


async def test_the_estimate_of_what_is_freed_is_exact():
    talk = Talk()
    for number in range(5):
        talk.turn(f"$ cat {number}", OUTPUT)
    edits = await plan(mask(), talk)
    saved = sum(talk.entries[edit.id].tokens - count_words(edit.content) - FRAME for edit in edits)
    assert await plan(mask(), talk, clear_at_least=saved) == edits
    assert await plan(mask(), talk, clear_at_least=saved + 1) == []


def test_it_begins_with_nothing_read():
    assert mask().start(sample_task(), Random(1)) == {"done": 0, "tools": {}}


@settings(max_examples=80, deadline=None)
@given(happenings=events)
async def test_whatever_happens_the_policys_and_the_users_words_stay(happenings):
    talk = pipeline(mask(keep=1, poll=2), context=6000)
    views = await live(talk, "Count.", happenings)
    said = [message for message in views[-1] if message.role == "assistant"]
    assert [message.content for message in said] == [
        parts[0] for kind, *parts in happenings[: len(happenings)] if kind in ("turn", "plain", "open")
    ][: len(said)]
    assert not [refusal for refusal in talk.refusals if refusal.check in ("grows", "progress")]


async def test_short_outputs_among_long_ones_stay():
    talk = Talk()
    long = talk.turn("both", OUTPUT, "ok")[0]
    for _ in range(3):
        talk.turn("look", OUTPUT)
    edits = await plan(mask(keep=1), talk)
    assert [edit.id for edit in edits] == [long.id, 6, 8]


async def test_an_output_that_no_prompt_has_held_is_never_masked_wherever_it_stands():
    talk = Talk()
    talk.turn("both", OUTPUT, shown=True)
    talk.turn("wait", OUTPUT, shown=False)
    for number in range(4):
        talk.turn(f"$ cat {number}", OUTPUT)
    edits = await plan(mask(keep=0, poll=1), talk, limit=10, why="overflow")
    assert [edit.id for edit in edits] == [3, 7, 9, 11, 13]


async def test_the_name_that_the_scaffold_tells_goes_before_what_a_reply_says():
    talk = Talk()
    for _ in range(4):
        talk.turn(call("search"), OUTPUT)
    talk.entries = [replace(each, tool="grep") if each.answers else each for each in talk.entries]
    edits = await plan(mask(keep=0), talk)
    assert edits[0].content.startswith("[old output of grep left out")
    assert await plan(mask(keep=0, exclude=["grep"]), talk) == []


async def test_each_reply_is_read_once_however_many_prompts_follow():
    strategy, talk = mask(keep=0, exclude=["todo"]), Talk()
    for _ in range(5):
        talk.turn(call("todo"), OUTPUT)
    state = strategy.start(sample_task(), Random(0))
    assert await plan(strategy, talk, state=state) == []
    # A reply never changes in a conversation: one that did would show whether it is read again.
    unread = Message(role="assistant", content="$ cat a")
    talk.entries = [replace(each, message=unread) if each.sampled else each for each in talk.entries]
    assert await plan(strategy, talk, state=state) == []
    assert len(await plan(strategy, talk)) == 5


async def test_what_is_done_with_is_not_looked_at_again_and_nothing_is_remembered_of_it():
    strategy, talk = mask(keep=0, exclude=["todo"]), Talk()
    state = strategy.start(sample_task(), Random(0))
    for _ in range(4):
        talk.turn(call("todo"), OUTPUT)
        talk.turn(call("look"), "ok")
    assert await plan(strategy, talk, state=state) == []
    assert set(state["tools"].values()) == {"todo"}
    assert await plan(strategy, talk, state=state) == []
    assert state == {"done": 8, "tools": {}}


@pytest.mark.parametrize("last", [{"pending": True}, {"shown": False}])
async def test_an_exchange_whose_answer_may_still_come_or_be_seen_is_not_done_with(last):
    strategy, talk = mask(keep=0, poll=1), Talk()
    state = strategy.start(sample_task(), Random(0))
    talk.turn("look", "ok")
    talk.turn("wait", OUTPUT, **last)
    talk.turn("look", "ok")
    assert await plan(strategy, talk, state=state) == []
    assert state["done"] == 1
    if "pending" in last:
        talk.add("user", OUTPUT, exchange=2, answers="2-1")
    talk.entries = [replace(each, shown=True) for each in talk.entries]
    assert len(await plan(strategy, talk, state=state)) == (2 if "pending" in last else 1)
