"""Strategies for structured conversations."""

from hypothesis import strategies as st

from tumbler.contracts.chat import ChatCall, ChatMessage

TAGS = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        "<think>",
        "</think>",
        "<tool_response>",
        "</tool_response>",
        "<\\tool_call>",
        "<\\\\/think>",
        "<|im_end|>",
        '{"name": "f", "arguments": {}}',
        "\n",
        "\\",
        "<",
        "$ ls",
        "\n$ ls",
        "\n\\$ x",
        "\n@tool {}",
        "  @",
        "done",
    ]
)
texts = st.lists(st.one_of(st.text(max_size=8), TAGS), max_size=8).map("".join)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, json_values, max_size=4)
names = st.text("abcXYZ019_-.", min_size=1, max_size=12)


def calls(name: st.SearchStrategy[str] = names) -> st.SearchStrategy[ChatCall]:
    return st.builds(ChatCall, id=st.just("call"), name=name, arguments=objects)


def replies(most_calls: int, name: st.SearchStrategy[str] = names) -> st.SearchStrategy[ChatMessage]:
    return st.builds(
        ChatMessage,
        role=st.just("assistant"),
        content=texts,
        thinking=texts,
        calls=st.lists(calls(name), max_size=most_calls).map(tuple),
    )


def with_ids(message: ChatMessage, prefix: str) -> ChatMessage:
    """The same message as reading it would number its calls."""
    numbered = [
        ChatCall(id=f"{prefix}{index}", name=call.name, arguments=call.arguments)
        for index, call in enumerate(message.calls)
    ]
    return ChatMessage(role=message.role, content=message.content, thinking=message.thinking, calls=tuple(numbered))
