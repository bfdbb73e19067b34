"""The log as a model sees it: joined for templates, paired for chat APIs."""

from tests.agents.iflow.scripted import HERMES, calls, require_legal, text_of

from tumbler.contracts.chat import ChatMessage
from tumbler.contracts.context import LogEntry
from tumbler.contracts.values import Message
from tumbler_agents.iflow.served import conversation
from tumbler_agents.iflow.speaking import joined
from tumbler_agents.iflow.transcript import Transcript


def user(content):
    return Message(role="user", content=content)


def entry(message, identity, **fields):
    return LogEntry(id=identity, message=message, tokens=1, **fields)


REPLY = Message(role="assistant", content=text_of(calls(("a", {"x": 1}), ("b", {}), text="Looking.")))


def answer(text):
    return HERMES.write(ChatMessage(role="tool", content=text))


def test_messages_of_the_user_that_follow_each_other_are_one():
    said = Message(role="assistant", content="a")
    assert joined([user("1"), user("2"), said, user("3")]) == [user("1\n2"), said, user("3")]


def test_answers_joined_are_what_the_dialect_merges():
    results = [ChatMessage(role="tool", content=text) for text in ("one", "two")]
    assert joined([HERMES.write(each) for each in results]) == list(HERMES.merge(results))


def test_calls_and_answers_are_paired_and_bare():
    entries = [
        entry(user("go"), 0),
        entry(REPLY, 1, sampled=True, calls=("m-0", "m-1")),
        entry(answer("one"), 2, answers="m-0"),
        entry(answer("two"), 3, answers="m-1"),
    ]
    built = conversation([each.message for each in entries], entries, HERMES)
    require_legal(built)
    assert [each.name for each in built[1].calls] == ["a", "b"] and built[1].content == "Looking."
    assert [(each.content, each.call_id) for each in built[2:]] == [("one", "m-0"), ("two", "m-1")]


def test_answers_to_a_reply_that_a_strategy_changed_are_the_users_words():
    entries = [
        entry(Message(role="assistant", content="(left out)"), 1, calls=("m-0", "m-1")),
        entry(answer("one"), 2, answers="m-0"),
        entry(answer("two"), 3, answers="m-1"),
    ]
    built = conversation([each.message for each in entries], entries, HERMES)
    require_legal(built)
    assert [each.role for each in built] == ["assistant", "user"]


def test_a_reply_whose_calls_could_not_be_read_is_text():
    broken = Message(role="assistant", content="<tool_call>\n{oops\n</tool_call>")
    entries = [entry(broken, 0, sampled=True, calls=("m-0",)), entry(answer("error"), 1, answers="m-0")]
    built = conversation([each.message for each in entries], entries, HERMES)
    require_legal(built)
    assert built[0].content == broken.content and built[1].role == "user"


def test_a_call_without_an_answer_gets_one():
    entries = [entry(REPLY, 0, sampled=True, calls=("m-0", "m-1")), entry(answer("two"), 1, answers="m-1")]
    entries.append(entry(user("and now?"), 2))
    built = conversation([each.message for each in entries], entries, HERMES)
    require_legal(built)
    assert built[-1].content == "and now?"


def test_a_message_of_one_prompt_only_is_in_it():
    entries = [entry(user("go"), 0)]
    built = conversation([user("go"), user("quickly")], entries, HERMES)
    assert [each.content for each in built] == ["go\nquickly"]


async def test_a_transcript_knows_exchanges_as_a_pipeline_does():
    log = Transcript()
    log.append(user("go"), pinned=True)
    log.append(REPLY, sampled=True, calls=["1", "2"])
    log.append(answer("two"), answers="2")
    log.append(answer("one"), answers="1")
    log.append(user("well?"))
    assert [each.exchange for each in log.entries] == [None, 1, 1, 1, None]
    assert not any(each.shown for each in log.entries)
    assert len(await log.messages()) == 5 and all(each.shown for each in log.entries)
