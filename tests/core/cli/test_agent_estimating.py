"""Tokens that are only estimated: the estimate follows the server's reports, and the context pipeline works on it."""

from pathlib import Path

import pytest

from tumbler.cli.agents.estimating import CHARACTERS_A_TOKEN, EstimatedTokenizer
from tumbler.cli.agents.minds import Beginning, room_for_reply
from tumbler.cli.agents.served import ServedMind
from tumbler.contracts.chat import ChatMessage, ChatModel, ChatReply, Usage
from tumbler.contracts.inference import TextTokenizer
from tumbler.contracts.values import Message, ToolCall
from tumbler.errors import ContextOverflowError, InferenceError
from tumbler.plugins import PluginHost
from tumbler.rollout.context import NamedStrategy

PLAIN = "a text of some length " * 50


class Served:
    """A chat model that counts two characters for a token, and says so."""

    context_length = 4000

    def __init__(self) -> None:
        self.asked: list[tuple[int | None, str]] = []

    async def chat(self, messages, tools=(), *, max_tokens=None, temperature=None, stop=(), on_text=None):
        words = "".join(message.content for message in messages)
        self.asked.append((max_tokens, words))
        usage = Usage(prompt=len(words) // 2, completion=3)
        return ChatReply(message=ChatMessage(role="assistant", content="noted"), usage=usage, text="noted")

    def count(self, messages, tools=()):
        return int(sum(len(message.content) for message in messages) / CHARACTERS_A_TOKEN)


def mind(model=None, **fields):
    return ServedMind(model=model or Served(), name="m", window_source="said", key_variable=None, **fields)


def beginning(*strategies):
    return Beginning(name="1-conversation", strategies=strategies, sandbox=None)


def strategy(name, **settings):
    return NamedStrategy(
        name=name, strategy=PluginHost.load(allow=["tumbler"]).build("context-strategy", name, settings)
    )


def test_it_keeps_the_contracts():
    assert isinstance(EstimatedTokenizer(100), TextTokenizer)
    assert isinstance(Served(), ChatModel)


def test_the_first_guess_is_a_stated_ratio():
    assert len(EstimatedTokenizer(100).encode(PLAIN)) == pytest.approx(len(PLAIN) / CHARACTERS_A_TOKEN, abs=1)


@pytest.mark.parametrize(("counted", "factor"), [(200, 2.0), (100, 1.0), (60, 0.6), (5, 0.5), (10_000, 4.0)])
def test_it_corrects_itself_within_bounds(counted, factor):
    tokenizer = EstimatedTokenizer(100)
    tokenizer.learn(estimated=100, counted=counted)
    assert tokenizer.characters_a_token == pytest.approx(CHARACTERS_A_TOKEN / factor)


def test_a_server_that_reports_nothing_changes_nothing():
    tokenizer = EstimatedTokenizer(100)
    tokenizer.learn(estimated=100, counted=0)
    assert tokenizer.characters_a_token == CHARACTERS_A_TOKEN


def test_what_was_only_counted_has_no_text():
    with pytest.raises(InferenceError):
        EstimatedTokenizer(100).decode([0])


def test_room_for_a_reply_is_a_part_of_a_small_window_and_what_was_asked_for():
    assert [room_for_reply(1000, None), room_for_reply(100_000, None), room_for_reply(1000, 7)] == [250, 4096, 7]


async def test_the_log_counts_as_the_server_does_after_the_first_reply():
    thought = mind().begin(beginning())
    thought.context.append(Message(role="user", content=PLAIN), pinned=True)
    await thought.context.messages()
    await thought.model.chat([ChatMessage(role="user", content=PLAIN)])
    identity = thought.context.append(Message(role="user", content=PLAIN.upper()))
    counted = next(entry.tokens for entry in thought.context.entries if entry.id == identity)
    assert counted == pytest.approx(len(PLAIN) / 2, rel=0.05)


async def test_a_conversation_that_grows_is_summed_up_by_the_served_model_itself():
    served = Served()
    thought = mind(served).begin(beginning(strategy("summary", keep_last=1, max_tokens=64)))
    thought.context.append(Message(role="user", content="The task."), pinned=True)
    for _ in range(12):
        thought.context.append(Message(role="assistant", content=PLAIN[:600]), sampled=True)
        thought.context.append(Message(role="user", content=PLAIN))
        messages = await thought.context.messages()
        await thought.model.chat([ChatMessage(role=each.role, content=each.content) for each in messages])
        assert served.asked[-1][1].startswith("The task.")
        assert len(served.asked[-1][1]) / 2 < served.context_length
    assert any("noted" in words and "ummary" in words for _, words in served.asked)


async def test_without_a_strategy_a_full_window_is_an_error_that_names_the_numbers():
    thought = mind().begin(beginning())
    thought.context.append(Message(role="user", content=PLAIN * 20))
    with pytest.raises(ContextOverflowError, match="3000 are left"):
        await thought.context.messages()


async def test_replies_are_numbered_so_that_strategies_tools_can_be_called():
    thought = mind().begin(beginning(strategy("notes")))
    (name,) = [spec.name for spec in thought.tools.specs if "read" in spec.name or "write" in spec.name][:1]
    reply = await thought.model.chat([ChatMessage(role="user", content="Go.")])
    again = await thought.model.chat([ChatMessage(role="user", content="Go.")])
    assert (reply.chunk, again.chunk) == (0, 1)
    answer = await thought.tools.call(ToolCall(name=name, arguments={}), chunk=reply.chunk)
    assert answer.observation


@pytest.mark.parametrize(("asked", "sent"), [(None, None), (77, 77)])
async def test_a_bound_on_replies_is_sent_only_where_the_person_gave_one(asked, sent):
    served = Served()
    thought = mind(served, max_tokens=asked).begin(beginning())
    await thought.model.chat([ChatMessage(role="user", content="Go.")])
    assert served.asked[0][0] == sent


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        ("http://x answered 401: no", "no key was sent"),
        ("http://x answered 404: no", "--model"),
        ("http://x cannot be reached: refused", "is the server running"),
        ("something else", ""),
    ],
)
def test_what_went_wrong_at_the_server_comes_with_what_to_look_at(problem, told):
    advice = mind().advice(problem)
    assert told in advice and bool(told) == bool(advice)


async def test_nothing_is_written_of_a_served_model(tmp_path: Path):
    thought = mind().begin(beginning())
    await thought.model.chat([ChatMessage(role="user", content="Go.")])
    thought.keep(tmp_path)
    assert list(tmp_path.iterdir()) == []
