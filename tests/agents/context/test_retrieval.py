import json
from dataclasses import replace
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
from tumbler_agents.context.passages import Memory, split
from tumbler_agents.context.postings import Postings
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


async def test_what_was_read_once_is_not_read_again():
    talk, gone = forgetful(FACT, "Nothing.", "A cat.", "A dog.")
    state = await remember(retrieval(), talk)
    talk.entries[3] = replace(talk.entries[3], message=Message(role="user", content="A horse."))
    await remember(retrieval(), talk, forget=gone)
    talk.turn("open the vault", "Code for the horse?", shown=False)
    talk.entries = [entry for entry in talk.entries if entry not in gone and entry.id != 3]
    (edit,) = await plan(retrieval(), talk, state=state)
    assert FACT in edit.content and "A horse." not in edit.content


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


def remembered(*texts):
    memory = Memory()
    for number, text in enumerate(texts):
        memory.add(str(number), text, 20, count_words)
    return memory


def found(memory, query, *, but=(), least=0):
    return [passage.text for passage in memory.search(query, but=but, least=least)]


class TestMemory:
    def test_it_survives_json(self):
        memory = remembered("a cat", "a dog", "")
        again = Memory.load(json.loads(json.dumps(memory.to_json())))
        assert found(again, "cat") == found(memory, "cat") == ["a cat"]
        assert "2" in again and "3" not in again

    def test_passages_tell_their_source(self):
        memory = remembered("a cat\n" * 10, "---", "a dog", "a cow", "a hen", "a pig", "a sow")
        assert [passage.source for passage in memory.search("dog", but=(), least=0)] == ["2"]
        assert {passage.source for passage in memory.search("cat", but=(), least=0)} == {"0"}

    def test_what_is_not_to_be_searched_counts_for_nothing(self):
        memory = remembered("cat", "dog", "cow", "a cat sat")
        assert found(memory, "cat", but=("0", "9")) == ["a cat sat"]
        assert found(memory, "cat", least=99) == []

    def test_a_source_that_says_something_else_now_is_read_anew(self):
        memory = remembered("cat", "dog")
        before = memory.to_json()
        memory.add("0", "cat", 20, count_words)
        assert memory.to_json() == before
        memory.add("0", "cow", 20, count_words)
        assert found(memory, "cat dog cow") == ["dog", "cow"]

    def test_it_stays_small_however_much_is_forgotten_and_finds_what_is_left(self):
        memory = Memory()
        for number in range(300):
            memory.add(str(number), f"room {number} has a cat{number}", 20, count_words)
            memory.forget(100)
        assert len(json.dumps(memory.to_json())) < 25_000
        assert found(memory, "cat299 cat298 cat1") == ["room 298 has a cat298", "room 299 has a cat299"]

    def test_words_are_found_in_the_singular_and_in_the_plural(self):
        memory = remembered("End all reports with a dot.", "Two entries.", "Nothing.", "A cat.")
        assert found(memory, "the report") == ["End all reports with a dot."]
        assert found(memory, "no entry") == ["Two entries."]

    def test_the_rarest_words_of_a_long_query_decide(self):
        memory = remembered(*(f"w{number}" for number in range(500)), "w1 needle", "w1 w2 w3")
        assert found(memory, " ".join(f"x{number}" for number in range(900)) + " needle") == ["w1 needle"]


words_of = draw.lists(draw.sampled_from(["cat", "dog", "cow", "羊の", "a1"]), max_size=6)


@given(draw.lists(words_of, max_size=12), words_of)
def test_an_index_finds_what_reading_all_passages_finds(passages, query):
    postings = Postings()
    for number, passage in enumerate(passages):
        postings.add(number, passage)
        postings = Postings(json.loads(json.dumps(postings.to_json())))
    read = [{at: p.count(term) for at, p in enumerate(passages) if term in p} for term in dict.fromkeys(query)]
    expected = sorted(filter(None, read), key=lambda holding: len(holding))
    assert [len(each) for each in postings.rarest(query, 99)] == [len(each) for each in expected]
    assert all(each in expected for each in postings.rarest(query, 99))
    assert postings.rarest(query, 1) == list(postings.rarest(query, 99))[:1]


def scores(query, passages):
    postings = Postings()
    for number, passage in enumerate(passages):
        postings.add(number, passage)
    known = bm25.score(postings.rarest(query, 99), [len(passage) for passage in passages])
    return [known.get(number, 0) for number in range(len(passages))]


class TestScores:
    def test_rare_words_count_more_than_common_ones(self):
        cat, dog, cow = scores(["the", "cow"], [["the", "cat"], ["the", "dog"], ["a", "cow"]])
        assert cow > cat == dog > 0

    def test_words_that_most_passages_have_tell_nothing(self):
        assert scores(["the"], [["the"], ["the"], ["the"], ["dog"]]) == [0, 0, 0, 0]

    def test_short_passages_beat_long_ones_and_repetition_helps_less_and_less(self):
        filler = ["x"] * 20
        once, long, often = scores(["cat"], [["cat"], ["cat", *filler], ["cat"] * 10])
        assert often > once > long and often < 3 * once

    def test_a_known_value(self):
        # One of two passages of equal length has the word: ln(1 + 1.5 / 1.5) times 1.
        assert scores(["cat"], [["cat"], ["dog"]]) == [pytest.approx(0.6931471805599453), 0]

    @pytest.mark.parametrize(("query", "passages"), [([], [["a"]]), (["a"], []), (["a"], [[], ["a"]])])
    def test_empty_things_have_scores(self, query, passages):
        assert len(scores(query, passages)) == len(passages)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Read_file(Paths)", ["read", "file", "path"]),
            (
                "reports entries classes glass status is bus",
                ["report", "entry", "classe", "glass", "status", "is", "bus"],
            ),
            ("STRASSE straße", ["strasse", "strasse"]),
            ("数える羊", ["数え", "える", "る羊"]),
            ("羊", ["羊"]),
            ("", []),
            ("--- !", []),
        ],
    )
    def test_terms_of_many_scripts(self, text, expected):
        assert list(bm25.terms(text)) == expected


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
