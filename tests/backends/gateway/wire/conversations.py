"""Strategies for what agents and policies say."""

from itertools import pairwise

from hypothesis import strategies as st

from tumbler.contracts.chat import ChatCall, ChatMessage, ChatReply, Usage

texts = st.text(max_size=12)
said = st.text(min_size=1, max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, json_values, max_size=3)
names = st.text("abcXYZ09_-", min_size=1, max_size=10)
some_calls = st.lists(st.tuples(names, objects), max_size=3).map(
    lambda pairs: tuple(
        ChatCall(id=f"call_{index}", name=name, arguments=arguments) for index, (name, arguments) in enumerate(pairs)
    )
)
spoken = st.builds(ChatMessage, role=st.just("assistant"), content=texts, thinking=texts, calls=some_calls).filter(
    lambda message: bool(message.content or message.calls)
)
usages = st.builds(
    lambda cached, fresh, completion: Usage(prompt=cached + fresh, completion=completion, cached=cached),
    *[st.integers(0, 10**6)] * 3,
)
replies = st.builds(
    lambda message, usage: ChatReply(message=message, stop="calls" if message.calls else "stop", usage=usage),
    spoken,
    usages,
)


@st.composite
def conversations(draw: st.DrawFn) -> list[ChatMessage]:
    """What an agent sends: questions, replies, and the answers to all calls of each."""
    messages = [ChatMessage(role="system", content=draw(said))] if draw(st.booleans()) else []
    for _turn in range(draw(st.integers(1, 3))):
        messages.append(ChatMessage(role="user", content=draw(said)))
        for _step in range(draw(st.integers(0, 2))):
            reply = draw(spoken)
            messages.append(reply)
            messages += [ChatMessage(role="tool", content=draw(texts), call_id=call.id) for call in reply.calls]
            if not reply.calls:
                break
    messages.append(ChatMessage(role="user", content=draw(said)))
    return messages


def cut(points: list[int], text: str) -> tuple[str, ...]:
    """The text in pieces, cut where the points say."""
    bounds = sorted({0, len(text), *(point % (len(text) + 1) for point in points)})
    return tuple(text[start:end] for start, end in pairwise(bounds))
