import json
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as draw
from tests.agents.context.conversations import (
    Talk,
    as_summary,
    count_words,
    events,
    live,
    pipeline,
    plan,
)

from tumbler.contracts.values import Message
from tumbler.testing import ContextStrategySuite, sample_task
from tumbler_agents.context import bm25
from tumbler_agents.context.offload_output import OffloadOutput, OffloadOutputSettings
from tumbler_agents.context.passages import Memory, Passage, split
from tumbler_agents.context.retrieval import Retrieval, RetrievalSettings
from tumbler_agents.context.window import Window, WindowSettings

HEADING = "[Earlier passages that may help and are no longer shown above:]"
FACT = "The vault's code is 4711."


def retrieval(**fields):
    return Retrieval(RetrievalSettings(**{"max_tokens": 80, "passage_tokens": 30, "min_score": 0.5, **fields}))


class TestRetrieval(ContextStrategySuite):
    @pytest.fixture
    def strategy(self):
        return retrieval()


async def remember(strategy, talk, *, forget=()):
    """Show the talk to the strategy, leave entries out, and return its state."""
    state = strategy.start(sample_task(), Random(0))
    await plan(strategy, talk, state=state)
    talk.entries = [entry for entry in talk.entries if entry.id not in {each.id for each in forget}]
    return state


def forgetful(*outputs):
    """Return a talk, and the entries of its first exchanges."""
    talk = Talk()
    for output in outputs:
        talk.turn("look", output)
    return talk, talk.entries[2:]


async def test_what_was_left_out_comes_back_when_it_is_asked_for():
    talk, gone = forgetful(FACT, "Nothing to see.", "A cat sits here.", "A dog sits there.")
    state = await remember(retrieval(), talk, forget=gone)
    (newest,) = talk.turn("open the vault", "The vault asks for its code.", shown=False)
    (edit,) = await plan(retrieval(), talk, state=state)
    assert edit.id == newest.id
    assert edit.content == f"The vault asks for its code.\n\n{HEADING}\n[from an earlier message]\n{FACT}"


async def test_a_users_question_is_answered_too():
    talk, gone = forgetful(FACT, "Nothing.", "A cat.", "A dog.")
    state = await remember(retrieval(), talk, forget=gone)
    talk.say("What was the vault's code?", shown=False)
    (edit,) = await plan(retrieval(), talk, state=state)
    assert FACT in edit.content


async def test_what_is_still_in_view_is_not_fetched():
    talk, _ = forgetful(FACT, "Nothing.", "A cat.", "A dog.")
    state = await remember(retrieval(), talk)
    talk.turn("open the vault", "It asks for its code.", shown=False)
    assert await plan(retrieval(), talk, state=state) == []


async def test_what_was_fetched_is_not_fetched_again_while_it_is_in_view():
    talk, gone = forgetful(FACT, "Nothing.", "A cat.", "A dog.")
    state = await remember(retrieval(), talk, forget=gone)
    talk.turn("open", f"The vault's code?\n{FACT}")
    talk.turn("open the vault", "Code?", shown=False)
    assert await plan(retrieval(), talk, state=state) == []


async def test_nothing_comes_back_that_has_nothing_to_do_with_the_turn():
    talk, gone = forgetful(FACT, "Nothing.", "A cat.", "A dog.")
    state = await remember(retrieval(), talk, forget=gone)
    talk.turn("swim", "Water everywhere!", shown=False)
    assert await plan(retrieval(), talk, state=state) == []
    talk.turn("open the vault", "Code?", shown=False)
    assert await plan(retrieval(min_score=50), talk, state=state) == []


async def test_what_comes_back_is_bounded_by_its_own_limit_and_by_the_context():
    facts = [f"Fact {number} of the vault: {number}{number}{number}." for number in range(40)]
    talk, gone = forgetful(*facts, *["Other things."] * 50)
    state = await remember(retrieval(), talk, forget=gone)
    (newest,) = talk.turn("open the vault", "Which fact?", shown=False)
    (edit,) = await plan(retrieval(), talk, state=state)
    added = count_words(edit.content) - count_words(newest.message.content)
    assert 40 < added <= 80
    (edit,) = await plan(retrieval(), talk, state=state, limit=talk.used + 60)
    assert 0 < count_words(edit.content) - count_words(newest.message.content) <= 60
    assert await plan(retrieval(), talk, state=state, limit=talk.used) == []


@pytest.mark.parametrize("last", ["shown", "pinned", "reply", "summary", "open"])
async def test_only_a_message_that_no_prompt_has_held_takes_passages(last):
    talk, gone = forgetful(FACT, "Nothing.", "A cat.", "A dog.")
    state = await remember(retrieval(), talk, forget=gone)
    if last in ("shown", "open"):
        talk.turn("vault", "Code?", shown=last == "shown", pending=last == "open")
    elif last == "pinned":
        talk.add("user", "The vault's code?", pinned=True)
    elif last == "reply":
        talk.turn("The vault's code?", shown=False)
    else:
        talk.entries[-1:] = [talk.entries[-1], as_summary(talk.say("The vault's code?", shown=False))]
        del talk.entries[-2]
    assert await plan(retrieval(), talk, state=state) == []


async def test_files_are_searched():
    talk = Talk()
    await talk.io.files.write("notes.md", f"Sheep: 12.\n{FACT}\n")
    talk.turn("open the vault", "Code?", shown=False)
    (edit,) = await plan(retrieval(files=["notes.md", "none.md"]), talk)
    assert "[from notes.md]" in edit.content and FACT in edit.content


async def test_an_output_that_went_to_a_file_is_searched():
    talk = pipeline(OffloadOutput(OffloadOutputSettings(max_tokens=200, preview_tokens=150)), retrieval(max_tokens=400))
    talk.append(Message(role="user", content="Look."), pinned=True)
    talk.append(Message(role="assistant", content="read"), sampled=True)
    talk.append(Message(role="user", content="filler\n" * 100 + FACT + "\n" + "filler\n" * 100))
    assert FACT not in (await talk.messages())[-1].content
    talk.append(Message(role="assistant", content="open the vault"), sampled=True)
    talk.append(Message(role="user", content="Which code?"))
    assert "[from output-2.txt]" in (await talk.messages())[-1].content


async def test_what_a_window_drops_comes_back_in_later_turns():
    window = Window(WindowSettings(keep_first=0, keep_last=1, threshold=0.5))
    talk = pipeline(window, retrieval(max_tokens=300), context=1200)
    talk.append(Message(role="user", content="Look."), pinned=True)
    views = []
    for output in (FACT, *["filler of the room " * 12] * 4, "The vault wants its code."):
        talk.append(Message(role="assistant", content="look"), sampled=True)
        talk.append(Message(role="user", content=output))
        views.append(await talk.messages())
    assert FACT not in "".join(message.content for message in views[-2])
    assert FACT in views[-1][-1].content


async def test_the_oldest_is_forgotten_first_and_not_remembered_again():
    strategy = retrieval(remember_tokens=40)
    talk, gone = forgetful(FACT, *(f"Room {number} has nothing at all in it." for number in range(6)))
    state = await remember(strategy, talk)
    await plan(strategy, talk, state=state)
    assert len(json.dumps(state)) < 2000
    state = await remember(strategy, talk, forget=gone)
    talk.turn("open the vault", "Code?", shown=False)
    assert await plan(strategy, talk, state=state) == []


async def test_a_saved_state_fetches_the_same():
    talk, gone = forgetful(FACT, "Nothing.", "A cat.", "A dog.")
    state = await remember(retrieval(), talk, forget=gone)
    talk.turn("open the vault", "Code?", shown=False)
    saved = json.loads(json.dumps(state))
    assert await plan(retrieval(), talk, state=saved) == await plan(retrieval(), talk, state=state) != []


@settings(max_examples=60, deadline=None)
@given(happenings=events)
async def test_whatever_happens_the_prefix_is_kept(happenings):
    talk = pipeline(retrieval(min_score=0), context=9000)
    views = await live(talk, "Count.", happenings)
    for before, after in pairwise(views):
        assert after[: len(before)] == before


@given(text=draw.text(alphabet="ab \n\u0301羊", max_size=120), tokens=draw.integers(1, 20))
def test_passages_hold_the_whole_text_within_their_bound(text, tokens):
    passages = split(text, tokens, count_words)
    assert "".join("".join(passages).split()) == "".join(text.split())
    assert all(count_words(passage) <= tokens for passage in passages)


def test_a_memory_survives_json():
    memory = Memory()
    memory.add("1", ["a", "b"], 2)
    memory.add("notes.md", [], 0)
    again = Memory(json.loads(json.dumps(memory.to_json())))
    assert list(again) == [Passage(source="1", text="a"), Passage(source="1", text="b")]
    assert "notes.md" in again and "2" not in again


class TestScores:
    def test_rare_words_count_more_than_common_ones(self):
        passages = [["the", "cat"], ["the", "dog"], ["a", "cow"]]
        scores = bm25.score(["the", "cow"], passages)
        assert scores[2] > scores[0] == scores[1] > 0

    def test_words_that_most_passages_have_tell_nothing(self):
        assert bm25.score(["the"], [["the"], ["the"], ["the"], ["dog"]]) == [0, 0, 0, 0]

    def test_short_passages_beat_long_ones_and_repetition_helps_less_and_less(self):
        filler = ["x"] * 20
        once, long, often = bm25.score(["cat"], [["cat"], ["cat", *filler], ["cat"] * 10])
        assert often > once > long and often < 3 * once

    def test_a_known_value(self):
        # One of two passages of equal length has the word: ln(1 + 1.5 / 1.5) times 1.
        assert bm25.score(["cat"], [["cat"], ["dog"]]) == [pytest.approx(0.6931471805599453), 0]

    @pytest.mark.parametrize(("query", "passages"), [([], [["a"]]), (["a"], []), (["a"], [[], ["a"]])])
    def test_empty_things_have_scores(self, query, passages):
        assert len(bm25.score(query, passages)) == len(passages)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Read_file(Path)", ["read", "file", "path"]),
            ("STRASSE straße", ["strasse", "strasse"]),
            ("数える羊", ["数え", "える", "る羊"]),
            ("羊", ["羊"]),
            ("", []),
            ("--- !", []),
        ],
    )
    def test_terms_of_many_scripts(self, text, expected):
        assert bm25.terms(text) == expected


async def test_without_a_word_in_common_nothing_comes_back_at_any_score():
    talk, gone = forgetful(FACT, "Nothing.", "A cat.", "A dog.")
    state = await remember(retrieval(), talk, forget=gone)
    talk.turn("swim", "Water everywhere!", shown=False)
    assert await plan(retrieval(min_score=0), talk, state=state) == []


async def test_the_same_words_come_back_once():
    talk, gone = forgetful(FACT, FACT, "Nothing.", "A cat.", "A dog.", "A cow.")
    state = await remember(retrieval(), talk, forget=gone)
    talk.turn("open the vault", "Code?", shown=False)
    (edit,) = await plan(retrieval(), talk, state=state)
    assert edit.content.count(FACT) == 1
