"""The tree of a session's conversations: who made a call, how much is looked at, and how much is kept."""

import json

from hypothesis import given
from hypothesis import strategies as st

from tumbler.contracts.chat import ChatCall, ChatMessage
from tumbler.contracts.values import Message, ToolSpec
from tumbler.dialects import dialect
from tumbler_backends.gateway import conversations, history
from tumbler_backends.gateway.bodies import read_body, seen_bodies
from tumbler_backends.gateway.conversations import Alike, Conversations, Given
from tumbler_backends.gateway.history import History

IDS = st.sampled_from(["a", "b", "c"])
CALLERS = st.lists(IDS, max_size=3).map(
    lambda ids: ChatMessage(
        role="assistant",
        calls=tuple(ChatCall(id=each, name=f"{number}", arguments={}) for number, each in enumerate(ids)),
    )
)
ANSWERS = IDS.map(lambda identity: ChatMessage(role="tool", content="x", call_id=identity))


def caller_before(messages: list[ChatMessage], place: int) -> tuple[int, int] | None:
    """Return the place of the latest message before that makes the call, and the call's among its calls."""
    for before in range(place - 1, -1, -1):
        for index, call in enumerate(messages[before].calls):
            if call.id == messages[place].call_id:
                return before, index
    return None


@given(messages=st.lists(CALLERS | ANSWERS | st.just(ChatMessage(role="user")), max_size=12), cut=st.integers(0, 12))
def test_an_answer_is_that_of_the_latest_call_with_its_id(messages, cut):
    tree = Conversations()
    tree.walk(b"", messages[:cut])
    steps = tree.walk(b"", messages)
    for place, step in enumerate(steps):
        if step.message.role == "tool":
            found = None if step.call is None else (steps.index(step.call[0]), step.call[1])
            assert found == caller_before(messages, place)


def test_answers_to_calls_that_nobody_made_look_at_each_message_once(monkeypatch):
    looked = []
    calls_of = conversations._calls_of
    monkeypatch.setattr(conversations, "_calls_of", lambda said: looked.append(said) or calls_of(said))
    messages = [ChatMessage(role="tool", content=str(number), call_id="none") for number in range(500)]
    Conversations().walk(b"", messages)
    assert len(looked) <= len(messages)


def test_an_answer_to_the_last_reply_looks_at_that_reply_alone(monkeypatch):
    messages = [
        message
        for number in range(200)
        for message in (
            ChatMessage(role="assistant", calls=(ChatCall(id=f"c{number}", name="f", arguments={}),)),
            ChatMessage(role="tool", content="x", call_id=f"c{number}"),
        )
    ]
    tree = Conversations()
    tree.walk(b"", messages[:-2])
    looked = []
    calls_of = conversations._calls_of
    monkeypatch.setattr(conversations, "_calls_of", lambda said: looked.append(said) or calls_of(said))
    steps = tree.walk(b"", messages)
    assert steps[-1].call == (steps[-2], 0)
    assert looked == [steps[-2]]


GIVEN = st.builds(
    lambda place, ids: Given(
        place=place, message=Message(role="assistant", content=""), call_ids=ids, tools=b"", agent="main"
    ),
    st.sampled_from([b"1", b"2", b"3"]),
    st.sampled_from([(), ("a",), ("a", "b")]),
)


@given(replies=st.lists(GIVEN, min_size=1, max_size=8), sought=GIVEN)
def test_of_replies_that_look_the_same_the_best_is_found_without_a_look_at_each(replies, sought):
    alike = Alike()
    for each in replies:
        alike.add(each)
    best = max(reversed(replies), key=lambda each: (each.place == sought.place, each.call_ids == sought.call_ids))
    assert alike.best(sought.place, sought.call_ids) is best
    assert alike.count == len(replies)


def test_large_arguments_of_calls_count_towards_what_is_kept():
    tree = Conversations()
    for number in range(3):
        call = ChatCall(id="c", name="write", arguments={"text": str(number) * (10 << 20)})
        (step,) = tree.walk(b"", [ChatMessage(role="assistant", calls=(call,))])
        assert step.message.calls == (call,)
    assert sum(len(following) for following in tree._beginnings.values()) <= 1


def test_a_body_of_very_many_objects_is_forgotten():
    seen = seen_bodies()
    body = json.dumps({"messages": [{"role": "user", "content": ""}] * 30_000}).encode()
    assert len(read_body(body, seen)["messages"]) == 30_000
    assert not seen._lists


def test_long_system_messages_and_tools_fill_no_memory():
    session = History(dialect("hermes"))
    for number in range(20):
        system = ChatMessage(role="system", content=str(number) * (1 << 20))
        tool = ToolSpec(name="f", description=f"{number}" * (1 << 20))
        assert session.prompt([system], [tool]).messages
    kept = sum(len(message.content) for _, written in session._systems.values() for message in written)
    assert kept <= 2 * history._MOST_CHARACTERS
    assert len(session._offers) <= len(session._systems)
