import pytest
from tests.agents.context.conversations import Talk, as_summary

from tumbler.contracts.context import Replace, Summarise
from tumbler_agents.context.cutting import Cut, is_note, make_room

OUTPUT = "some words of an output " * 10


@pytest.mark.parametrize("text", ["[3 earlier steps left out]", "[1 earlier step left out]"])
def test_only_what_stands_for_others_is_a_note(text):
    entry = Talk().say(text)
    assert not is_note(entry) and is_note(as_summary(entry))
    assert not is_note(as_summary(Talk().say(f"{text}!")))


def test_a_note_that_counts_beyond_reason_is_none():
    assert not is_note(as_summary(Talk().say(f"[{'9' * 5000} earlier steps left out]")))


def test_what_is_left_is_what_the_edits_leave():
    talk = Talk()
    for number in range(4):
        talk.turn(f"$ cat {number}", OUTPUT)
    cut = Cut(talk.view, talk.io, talk.used)
    cut.drop(cut.exchanges[:2])
    goal = cut.left - 20
    cut.squeeze(goal)
    replaced, summary = sorted(cut.edits(10_000), key=lambda edit: isinstance(edit, Summarise))
    assert isinstance(replaced, Replace) and isinstance(summary, Summarise)
    shown = [m.content for m in cut.messages()]
    assert cut.left == sum(talk.io.count(text) + 5 for text in shown) <= goal
    assert shown[2] == summary.text and replaced.content in shown


def test_what_was_shortened_and_then_goes_counts_once():
    talk = Talk()
    talk.turn("look " * 50, OUTPUT * 5, shown=False)
    cut = Cut(talk.view, talk.io, talk.used)
    cut.squeeze(45)
    (edit,) = cut.edits(10_000)
    assert isinstance(edit, Summarise)
    assert cut.left == sum(talk.io.count(m.content) + 5 for m in cut.messages())


def test_a_text_of_the_models_stands_in_place_of_the_note():
    talk = Talk()
    talk.turn("look", OUTPUT)
    cut = Cut(talk.view, talk.io, talk.used)
    cut.drop(cut.exchanges)
    cut.say("A field.", 3)
    assert cut.edits(10_000) == [Summarise(ids=(2, 3), text="A field.", call=3)]


def test_what_has_been_shown_is_not_touched_where_a_rewrite_would_be_one_too_many():
    talk = Talk()
    talk.entries[-1:] = [talk.entries[-1], as_summary(talk.say("[3 earlier steps left out]"))]
    del talk.entries[-2]
    talk.turn("look", "seen")
    talk.turn("long " * 300, "new", shown=False)
    cut = make_room(Cut(talk.view, talk.io, talk.used), talk.view, talk.budget(200), talk.io, tired=True)
    assert cut.edits(200) == [Summarise(ids=(5, 6), text="[1 earlier step left out]")]
    assert not cut.rewrites


def test_room_is_left_for_the_next_turn_where_the_newest_output_is_shortened():
    talk = Talk()
    talk.turn("look", OUTPUT * 10, shown=False)
    cut = make_room(Cut(talk.view, talk.io, talk.used), talk.view, talk.budget(300), talk.io, tired=False)
    assert 240 <= cut.left <= 270


def test_a_prompt_that_just_does_not_fit_is_cut_by_enough_to_be_carried_out():
    talk = Talk()
    talk.turn("look", OUTPUT * 10)
    talk.say("And?", shown=False)
    limit = talk.used - 1
    cut = make_room(Cut(talk.view, talk.io, talk.used), talk.view, talk.budget(limit), talk.io, tired=False)
    assert cut.rewrites and talk.used - cut.left >= talk.used / 10
    wanted = talk.used // 2
    cut = make_room(Cut(talk.view, talk.io, talk.used), talk.view, talk.budget(limit, wanted), talk.io, tired=False)
    assert talk.used - cut.left >= wanted
