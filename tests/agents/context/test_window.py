from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as draw
from tests.agents.context.conversations import (
    FakeIO,
    Talk,
    as_summary,
    events,
    least,
    live,
    openings,
    pipeline,
    plan,
    prompts,
    refused_as_a_rewrite,
)

from tumbler.contracts.context import Drop, Replace, Summarise, View
from tumbler.contracts.values import Message
from tumbler.errors import ContextOverflowError, ContractError
from tumbler.testing import ContextStrategySuite, sample_task
from tumbler_agents.context.mask_observations import MaskObservations, MaskObservationsSettings
from tumbler_agents.context.truncate_output import TruncateOutput, TruncateOutputSettings
from tumbler_agents.context.window import Window, WindowSettings

OUTPUT = "some words of an output " * 10


def window(**fields):
    return Window(WindowSettings(**{"keep_first": 1, "keep_last": 2, "threshold": 0.8, **fields}))


def talk_of(turns, **fields):
    talk = Talk(**fields)
    for number in range(turns):
        talk.turn(f"$ cat {number}", OUTPUT)
    return talk


def ids(exchange, talk):
    return tuple(entry.id for entry in talk.entries if entry.exchange == exchange)


class TestWindow(ContextStrategySuite):
    @pytest.fixture
    def strategy(self):
        return window()


class TestWideWindow(ContextStrategySuite):
    @pytest.fixture
    def strategy(self):
        return window(keep_first=3, keep_last=50, threshold=[0.5, 1.0])


async def test_the_middle_goes_and_a_note_says_how_much():
    talk = talk_of(6)
    (edit,) = await plan(window(), talk, limit=talk.used)
    assert edit == Summarise(
        ids=tuple(entry_id for exchange in (2, 3, 4) for entry_id in ids(exchange, talk)),
        text="[3 earlier steps left out]",
    )


async def test_below_the_threshold_nothing_goes():
    talk = talk_of(6)
    assert await plan(window(), talk, limit=2 * talk.used) == []


@pytest.mark.parametrize("why", ["tool_request", "user_request"])
async def test_on_request_it_cuts_below_the_threshold(why):
    talk = talk_of(6)
    assert len(await plan(window(), talk, limit=2 * talk.used, why=why)) == 1


async def test_notes_of_earlier_cuts_are_merged_and_their_count_goes_on():
    talk = talk_of(1)
    note = as_summary(talk.say("[40 earlier steps left out]"))
    talk.entries[-1] = note
    for number in range(5):
        talk.turn(f"$ cat {number}", OUTPUT)
    (edit,) = await plan(window(), talk, limit=talk.used)
    assert edit.text == "[43 earlier steps left out]"
    assert edit.ids[0] == note.id and ids(1, talk)[0] not in edit.ids


async def test_summaries_of_other_strategies_stay():
    talk = talk_of(3)
    talk.entries[-1] = as_summary(talk.say("Three files were read."))
    for number in range(4):
        talk.turn(f"$ cat {number}", OUTPUT)
    summary = talk.entries[-9].id
    (edit,) = await plan(window(), talk, limit=talk.used)
    assert summary not in edit.ids


async def test_an_output_with_the_words_of_a_note_counts_as_one_step():
    talk = Talk()
    talk.turn("look", "[40 earlier steps left out]")
    for number in range(5):
        talk.turn(f"$ cat {number}", "[40 earlier steps left out]" * 20)
    (edit,) = await plan(window(keep_first=0), talk, limit=talk.used)
    assert edit.text == "[4 earlier steps left out]"


async def test_what_users_say_in_between_stays():
    talk = talk_of(2)
    rule = talk.say("Never delete files.")
    for number in range(4):
        talk.turn(f"$ cat {number}", OUTPUT)
    (edit,) = await plan(window(), talk, limit=talk.used)
    assert rule.id not in edit.ids


async def test_exchanges_that_hold_something_pinned_or_open_stay():
    talk = talk_of(2)
    talk.exchange += 1
    pinned = talk.add("assistant", "look", exchange=talk.exchange, sampled=True, shown=True)
    talk.add("user", OUTPUT, exchange=talk.exchange, pinned=True, shown=True)
    talk.turn("$ cat a b", OUTPUT, pending=True)
    open_ids = ids(talk.exchange, talk)
    for number in range(4):
        talk.turn(f"$ cat {number}", OUTPUT)
    (edit,) = await plan(window(), talk, limit=talk.used)
    assert not {pinned.id, *open_ids} & set(edit.ids)


async def test_answers_to_parallel_calls_go_with_their_reply():
    talk = Talk()
    for number in range(5):
        talk.turn(f"$ cat {number}", OUTPUT, OUTPUT, OUTPUT)
    (edit,) = await plan(window(keep_first=0), talk, limit=talk.used)
    assert set(edit.ids) == {*ids(1, talk), *ids(2, talk), *ids(3, talk)}


async def test_fewer_stay_where_the_newest_take_too_much():
    talk = talk_of(6)
    (edit,) = await plan(window(keep_first=0, keep_last=6), talk, limit=talk.used)
    left = talk.used - sum(talk.entries[entry_id].tokens for entry_id in edit.ids)
    assert 0.4 * talk.used < left <= 0.6 * talk.used
    assert set(edit.ids) == {*ids(1, talk), *ids(2, talk), *ids(3, talk)}


async def test_a_single_exchange_larger_than_the_budget_is_shortened_where_it_is_new():
    talk = Talk()
    _, long = talk.turn("$ cat a b", "short", OUTPUT * 20, shown=False)
    (edit,) = await plan(window(), talk, limit=300, why="overflow")
    assert isinstance(edit, Replace) and edit.id == long.id and "left out" in edit.content
    assert talk.used - long.tokens + talk.io.count(edit.content) < 300


async def test_a_user_who_says_more_than_fits_is_shortened_last_of_all():
    talk = talk_of(3)
    long = talk.say(OUTPUT * 20, shown=False)
    edits = await plan(window(), talk, limit=500, why="overflow")
    assert [edit.id for edit in edits if isinstance(edit, Replace)] == [*ids(3, talk)[1:], long.id] or [
        edit.id for edit in edits if isinstance(edit, Replace)
    ] == [long.id]


async def test_the_context_that_is_full_at_the_first_turn_is_left_alone():
    talk = Talk(task=OUTPUT * 30)
    assert await plan(window(), talk, limit=200, why="overflow") == []


async def test_the_first_message_of_a_user_who_is_not_pinned_is_shortened_to_fit():
    talk = pipeline(window(), context=700)
    talk.append(Message(role="user", content="z" * 5000))
    (message,) = await talk.messages()
    assert "left out" in message.content and len(message.content) < 600


async def test_after_two_rewrites_in_a_row_the_new_output_is_shortened_instead():
    talk = pipeline(window(), context=1000)
    talk.append(Message(role="user", content="Look."), pinned=True)
    seen = []
    for number in range(12):
        talk.append(Message(role="assistant", content=f"$ cat {number}"), sampled=True)
        talk.append(Message(role="user", content=f"{number} " * 300))
        seen.append(await talk.messages())
    assert talk.refusals == ()
    assert all(f"$ cat {number}" in seen[number][-2].content for number in range(12))


async def test_a_rewrite_that_frees_too_little_is_not_asked_for_until_it_must_be():
    talk = talk_of(6, task=OUTPUT * 100)
    assert await plan(window(), talk, limit=talk.used) == []
    talk = talk_of(6)
    assert await plan(window(), talk, limit=talk.used, clear_at_least=10_000) == []


async def test_without_a_tokenizer_the_middle_goes_too():
    talk = talk_of(6)
    strategy = window()
    state = strategy.start(sample_task(), Random(0))
    planned = await strategy.plan(View(entries=talk.view.entries), talk.budget(talk.used), state, "turn_end")
    gone = (*ids(2, talk), *ids(3, talk), *ids(4, talk))
    assert planned.edits == [Summarise(ids=gone, text="[3 earlier steps left out]")]


async def test_no_note_is_left_where_only_the_note_would_not_fit():
    talk = Talk(FakeIO(count=len), task="z" * 400)
    talk.turn("a" * 60)
    pinned = sum(entry.tokens for entry in talk.entries[:2])
    (edit,) = await plan(window(), talk, limit=pinned + 3, why="overflow")
    assert isinstance(edit, Drop)


def test_a_range_gives_each_group_a_threshold_of_its_own():
    strategy = window(threshold=[0.5, 0.9])
    drawn = [strategy.threshold(strategy.start(sample_task(), Random(seed))) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(0.5 <= share <= 0.9 for share in drawn)


def test_a_state_of_another_strategy_is_refused():
    with pytest.raises(ContractError, match="restore the strategy's own state"):
        window().threshold({"threshold": "high"})


strategies = draw.builds(
    window,
    keep_first=draw.integers(0, 3),
    keep_last=draw.integers(1, 6),
    threshold=draw.sampled_from([0.3, 0.8, 1.0]),
)


@settings(max_examples=150, deadline=None)
@given(happenings=events, opening=openings, strategy=strategies)
async def test_whatever_happens_it_fits_or_no_plan_that_is_allowed_could_make_it_fit(happenings, opening, strategy):
    talk = pipeline(strategy, context=1000)
    views = await live(talk, opening, happenings)
    for view in views:
        assert view[1].content == opening
    assert len(views) == prompts(happenings) or least(talk.entries) > 900 or refused_as_a_rewrite(talk)


@settings(max_examples=60, deadline=None)
@given(happenings=events)
async def test_it_composes_with_strategies_before_it(happenings):
    talk = pipeline(
        TruncateOutput(TruncateOutputSettings(max_tokens=150)),
        MaskObservations(MaskObservationsSettings(keep=1, poll=2)),
        window(),
        context=1400,
    )
    views = await live(talk, "Count.", happenings)
    assert len(views) == prompts(happenings) or least(talk.entries) > 1300 or refused_as_a_rewrite(talk)


async def test_an_overflow_that_nothing_can_mend_is_said_to_be_one():
    talk = pipeline(window(), context=500)
    talk.append(Message(role="user", content="z" * 600), pinned=True)
    with pytest.raises(ContextOverflowError):
        await talk.messages()


async def test_what_follows_a_note_is_not_among_the_first():
    talk = Talk()
    talk.entries[-1:] = [talk.entries[-1], as_summary(talk.say("[3 earlier steps left out]"))]
    del talk.entries[-2]
    for number in range(5):
        talk.turn(f"$ cat {number}", OUTPUT)
    (edit,) = await plan(window(), talk, limit=talk.used)
    assert ids(1, talk)[0] in edit.ids


async def test_the_first_exchanges_go_before_the_newest_output_is_shortened():
    talk = Talk()
    talk.turn("$ cat 0", OUTPUT * 10)
    for number in range(3):
        talk.turn(f"$ cat {number}", OUTPUT)
    (edit,) = await plan(window(), talk, limit=400, why="overflow")
    assert isinstance(edit, Summarise)
    assert ids(1, talk)[0] in edit.ids and ids(4, talk)[0] not in edit.ids
