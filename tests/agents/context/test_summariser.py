"""The summariser's own prompts fit, whatever there is to sum up, and miss no entry that they could hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as draw
from tests.agents.context.conversations import FakeIO, count_words
from tests.agents.context.talking import entry

from tumbler.errors import ContextOverflowError, ContractError, EpisodeTimeoutError, InferenceError
from tumbler.rollout.sources import ExpertSilentError
from tumbler_agents.context.clipping import clip, level
from tumbler_agents.context.summariser import Summariser

texts = draw.one_of(
    draw.text(max_size=200),
    draw.sampled_from(["word " * 400, "🗂" * 300, "one\ntwo\n" * 50, "x" * 2000]),
)
entries = draw.lists(draw.tuples(texts, draw.sampled_from(["user", "assistant", "tool"]), draw.booleans()), min_size=1)


def summariser(io: FakeIO, **more: object) -> Summariser:
    settings: dict[str, object] = {
        "instructions": "Sum up.",
        "task": "Count.",
        "room": 400,
        "calls": 3,
        "trainable": True,
    }
    return Summariser(io=io, **{**settings, **more})  # type: ignore[arg-type]


@given(entries, draw.integers(1, 4), draw.integers(200, 900))
async def test_no_prompt_is_longer_than_the_room_and_there_are_no_more_than_allowed(found, calls, room):
    io = FakeIO(*["a summary of some words"] * 10)
    conversation = [
        entry(index, text, role=role, summary=earlier and role == "user")
        for index, (text, role, earlier) in enumerate(found)
    ]
    await summariser(io, calls=calls, room=room).summarise(conversation, 60)
    assert len(io.asked) <= calls
    for messages, tokens, _ in io.asked:
        assert sum(count_words(message.content) for message in messages) <= room
        assert tokens == 60


async def test_a_short_conversation_is_told_whole_and_in_order():
    io = FakeIO("done")
    conversation = [
        entry(0, "what was before", summary=True),
        entry(1, "I look.", role="assistant"),
        entry(2, "a.txt", role="tool"),
        entry(3, "No tabs!"),
    ]
    reply = await summariser(io).summarise(conversation, 60)
    assert reply is not None
    (prompt,) = [messages[0].content for messages, _, _ in io.asked]
    expected = [
        "Sum up.",
        "Count.",
        "earlier summary",
        "what was before",
        "I look.",
        "result",
        "a.txt",
        "user",
        "No tabs!",
    ]
    places = [prompt.index(text) for text in expected]
    assert places == sorted(places)


async def test_earlier_summaries_are_cut_last():
    io = FakeIO("done")
    conversation = [entry(0, "the key is 4711", summary=True), *(entry(i, "noise " * 40) for i in range(1, 200))]
    await summariser(io, calls=1).summarise(conversation, 60)
    assert "the key is 4711" in io.asked[0][0][0].content


@given(draw.text(max_size=300), draw.integers(-5, 60))
def test_a_clipped_text_is_never_longer_than_asked_for(text, tokens):
    shown = clip(text, tokens, count_words)
    assert shown in ("", text) or count_words(shown) <= tokens


@given(draw.lists(draw.integers(0, 100), max_size=20), draw.integers(0, 800))
def test_room_is_dealt_out_and_small_sizes_stay_whole(sizes, room):
    most = level(sizes, room)
    cut = [min(size, most) for size in sizes]
    assert sum(cut) <= room
    assert cut == sizes or sum(cut) > room - len(sizes)


@pytest.mark.parametrize(
    "error", [InferenceError("gone"), ContractError("no such dialect"), EpisodeTimeoutError("late")]
)
async def test_only_a_prompt_that_is_too_long_is_met_with_a_shorter_one(error):
    io = FakeIO(ContextOverflowError("send fewer"), error)
    with pytest.raises(type(error)):
        await summariser(io, room=2000).summarise([entry(0, "word " * 100)], 60)
    assert len(io.asked) == 2


async def test_without_anybody_to_ask_there_is_no_summary():
    io = FakeIO(ExpertSilentError("main/summarizer"))
    assert await summariser(io, room=2000).summarise([entry(0, "word " * 100)], 60) is None
