import pytest
from tests.agents.context.conversations import Talk, as_summary, count_words

from tumbler.contracts.context import Replace, Summarise
from tumbler_agents.context.cutting import Cut, is_note, settle

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
    cut = Cut(talk.view, talk.used)
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
    cut = Cut(talk.view, talk.used)
    cut.squeeze(45)
    (edit,) = cut.edits(10_000)
    assert isinstance(edit, Summarise)
    assert cut.left == sum(talk.io.count(m.content) + 5 for m in cut.messages())


def test_a_text_of_the_models_stands_in_place_of_the_note():
    talk = Talk()
    talk.turn("look", OUTPUT)
    cut = Cut(talk.view, talk.used)
    cut.drop(cut.exchanges)
    cut.say("A field.", 3)
    assert cut.edits(10_000) == [Summarise(ids=(2, 3), text="A field.", call=3)]


def test_room_is_left_for_the_next_turn_where_the_newest_output_is_shortened():
    talk, state = Talk(), {"in_a_row": 0}
    talk.turn("look", OUTPUT * 10, shown=False)
    cut = Cut(talk.view, talk.used)
    assert settle(cut, talk.budget(300), state, 0).edits
    assert 240 <= cut.left <= 270 and state == {"in_a_row": 0}


def test_a_prompt_that_fits_is_left_alone_where_too_little_would_be_freed():
    talk, state = Talk(), {"in_a_row": 0}
    for number in range(20):
        talk.turn(f"$ cat {number}", OUTPUT)
    cut = Cut(talk.view, talk.used)
    cut.drop(cut.exchanges[:3])
    freed = talk.used - cut.left
    assert settle(cut, talk.budget(talk.used, freed + 1), state, 1).edits == ()
    assert settle(cut, talk.budget(talk.used, freed), state, 1).edits and state == {"in_a_row": 2}


def test_answers_that_no_prompt_has_held_are_not_dropped_but_shortened_and_only_as_far_as_needed():
    talk = Talk()
    for number in range(4):
        talk.turn(f"$ cat {number}", OUTPUT)
    late = talk.turn("wait", OUTPUT * 3, shown=False)[0]
    talk.turn("look", "seen")
    talk.turn("look", "new", shown=False)
    cut = Cut(talk.view, talk.used)
    cut.drop(cut.exchanges)
    assert late.message in cut.messages()
    cut.squeeze(cut.left - 20)
    (replaced,) = [edit for edit in cut.edits(10_000) if isinstance(edit, Replace)]
    assert replaced.id == late.id and count_words(late.message.content) - count_words(replaced.content) < 60


def test_at_the_very_last_new_answers_go_too_and_the_newest_last():
    talk = Talk()
    talk.turn("word " * 30, "late", shown=False)
    talk.turn("word " * 10, "new", shown=False)
    cut = Cut(talk.view, talk.used)
    cut.squeeze(70)
    (edit,) = cut.edits(10_000)
    assert isinstance(edit, Summarise) and edit.ids == (2, 3)


def test_a_note_that_is_pinned_stays():
    talk = Talk()
    note = talk.add("user", "[3 earlier steps left out]", pinned=True, summary=True)
    talk.turn("look", OUTPUT)
    cut = Cut(talk.view, talk.used)
    cut.drop(cut.exchanges)
    (edit,) = cut.edits(10_000)
    assert isinstance(edit, Summarise) and note.id not in edit.ids
