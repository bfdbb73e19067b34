"""What hermes writes is what the chat templates of Qwen2.5 and Qwen3 make of the same structured conversation."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tests.core.dialects.conversations import json_values, names

from tumbler.contracts.chat import ChatCall, ChatMessage
from tumbler.contracts.values import Message, ToolSpec
from tumbler.dialects import dialect

HERMES = dialect("hermes")


class Template:
    """One of the templates that TRL brings along, as transformers renders it."""

    def __init__(self, name: str) -> None:
        spec = find_spec("trl")
        assert spec is not None and spec.origin is not None
        source = Path(spec.origin).parent / "chat_templates" / f"{name}.jinja"
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        self._template = environment.from_string(source.read_text())

    def structured(self, messages: list[ChatMessage], tools: list[ToolSpec]) -> str:
        described = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            }
            for tool in tools
        ]
        return self._template.render(
            messages=[_as_hugging_face(message) for message in messages],
            tools=described,
            add_generation_prompt=True,
        )

    def flat(self, messages: list[Message]) -> str:
        return self._template.render(
            messages=[{"role": message.role, "content": message.content} for message in messages],
            add_generation_prompt=True,
        )


QWEN = {name: Template(name) for name in ("qwen2_5", "qwen3")}


def _as_hugging_face(message: ChatMessage) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        written["reasoning_content"] = message.thinking
    if message.calls:
        written["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in message.calls
        ]
    return written


def flattened(messages: list[ChatMessage], tools: list[ToolSpec]) -> list[Message]:
    system, *rest = messages
    return [Message(role="system", content=HERMES.system(system.content, tools)), *HERMES.merge(rest)]


# The templates strip line breaks around thoughts and contents, and know no tags within them.
words = st.text(st.characters(codec="utf-8", exclude_characters="\n<"), max_size=12)
spoken = words.filter(bool)
arguments = st.dictionaries(words, json_values.filter(lambda value: "<" not in repr(value)), max_size=3)
some_calls = st.lists(st.builds(ChatCall, id=st.just("1"), name=names, arguments=arguments), min_size=1, max_size=3)
tool_lists = st.lists(st.builds(ToolSpec, name=names, description=words, parameters=arguments), max_size=3)


@st.composite
def conversations(draw: st.DrawFn, *, thinking: bool) -> list[ChatMessage]:
    messages = [ChatMessage(role="system", content=draw(spoken))]
    for _question in range(draw(st.integers(1, 3))):
        messages.append(ChatMessage(role="user", content=draw(spoken)))
        for _step in range(draw(st.integers(0, 2))):
            calls = draw(some_calls)
            thoughts = draw(words) if thinking else ""
            messages.append(ChatMessage(role="assistant", content=draw(words), thinking=thoughts, calls=tuple(calls)))
            messages += [ChatMessage(role="tool", content=draw(words), call_id="1") for _ in calls]
        if draw(st.booleans()):
            messages.append(ChatMessage(role="assistant", content=draw(spoken)))
            messages.append(ChatMessage(role="user", content=draw(spoken)))
    return messages


@given(conversations(thinking=False), tool_lists)
def test_qwen2_5_renders_the_flat_conversation_as_it_does_the_structured_one(
    messages: list[ChatMessage], tools: list[ToolSpec]
) -> None:
    template = QWEN["qwen2_5"]
    assert template.flat(flattened(messages, tools)) == template.structured(messages, tools)


@given(conversations(thinking=True), tool_lists)
def test_qwen3_renders_the_flat_conversation_as_it_does_the_structured_one(
    messages: list[ChatMessage], tools: list[ToolSpec]
) -> None:
    template = QWEN["qwen3"]
    assert template.flat(flattened(messages, tools)) == template.structured(messages, tools)


def test_qwen3_shows_the_thoughts_since_the_last_question_in_both() -> None:
    call = ChatCall(id="1", name="add", arguments={"a": 1, "ü": ["é"]})
    messages = [
        ChatMessage(role="system", content="Calculate."),
        ChatMessage(role="user", content="1 + 1?"),
        ChatMessage(role="assistant", content="Adding.", thinking="I should add.", calls=(call, call)),
        ChatMessage(role="tool", content="2", call_id="1"),
        ChatMessage(role="tool", content="2", call_id="1"),
    ]
    text = QWEN["qwen3"].flat(flattened(messages, []))
    assert text == QWEN["qwen3"].structured(messages, [])
    assert (
        "<|im_start|>assistant\n<think>\nI should add.\n</think>\n\nAdding.\n"
        '<tool_call>\n{"name": "add", "arguments": {"a": 1, "ü": ["é"]}}\n</tool_call>\n<tool_call>'
    ) in text
    assert (
        "<|im_start|>user\n<tool_response>\n2\n</tool_response>\n<tool_response>\n2\n</tool_response><|im_end|>" in text
    )


@pytest.mark.parametrize("name", sorted(QWEN))
def test_a_closing_tag_in_arguments_is_not_taken_for_the_end_of_thinking(name: str) -> None:
    call = ChatCall(id="1", name="write", arguments={"text": "</think>"})
    messages = [
        ChatMessage(role="system", content="s"),
        ChatMessage(role="user", content="u"),
        ChatMessage(role="assistant", content="Look.", calls=(call,)),
    ]
    assert 'Look.\n<tool_call>\n{"name": "write"' in QWEN[name].flat(flattened(messages, []))
