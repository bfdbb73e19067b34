"""The dialect hermes reads what it writes, and any text that a policy may come up with."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.dialects.conversations import TAGS, replies, texts, with_ids

from tumbler.contracts.chat import ChatCall, ChatMessage, Dialect
from tumbler.contracts.values import Message, ToolSpec
from tumbler.dialects import dialect
from tumbler.dialects.json_text import DEEPEST

HERMES = dialect("hermes")


def block(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


def call_text(name: str, **arguments: object) -> str:
    return block(json.dumps({"name": name, "arguments": arguments}))


def read(text: str) -> ChatMessage:
    return HERMES.read(text, call_prefix="c")


def made(message: ChatMessage) -> list[tuple[str, object]]:
    return [(call.name, call.arguments) for call in message.calls if call.problem is None]


def problems(message: ChatMessage) -> list[str]:
    return [call.problem for call in message.calls if call.problem is not None]


def test_hermes_is_a_dialect() -> None:
    assert isinstance(HERMES, Dialect)


@given(replies(4, texts.filter(bool)))
def test_what_is_written_is_read_again_whatever_it_says(message: ChatMessage) -> None:
    assert read(HERMES.write(message).content) == with_ids(message, "c")


@given(st.lists(st.one_of(TAGS, st.text(max_size=6), st.sampled_from('{}[],":')), max_size=30).map("".join))
def test_any_text_is_read_and_what_was_read_can_be_written_and_read_again(text: str) -> None:
    message = read(text)
    good = ChatMessage(
        role="assistant",
        content=message.content,
        thinking=message.thinking,
        calls=tuple(call for call in message.calls if call.problem is None),
    )
    assert read(HERMES.write(good).content) == with_ids(good, "c")
    for call in message.calls:
        assert call.problem is None or not call.arguments


@given(texts, texts)
def test_what_users_and_tools_say_is_written_word_for_word(said: str, result: str) -> None:
    conversation = [
        ChatMessage(role="system", content=said),
        ChatMessage(role="user", content=said),
        ChatMessage(role="tool", content=result, call_id="1"),
    ]
    assert HERMES.merge(conversation) == [
        Message(role="system", content=said),
        Message(role="user", content=said),
        Message(role="user", content=f"<tool_response>\n{result}\n</tool_response>"),
    ]


def test_a_tag_that_an_assistant_only_names_does_not_stand_in_its_text_as_a_tag() -> None:
    message = ChatMessage(role="assistant", content="The tag <tool_call> opens a call.")
    assert HERMES.write(message).content == "The tag <\\tool_call> opens a call."


def test_tags_in_arguments_are_written_as_json_escapes() -> None:
    call = ChatCall(id="1", name="write", arguments={"text": "</tool_call></think>"})
    written = HERMES.write(ChatMessage(role="assistant", calls=(call,))).content
    assert written.count("</tool_call>") == 1
    assert "</think>" not in written


def test_arguments_may_hold_the_closing_tag_as_the_policy_wrote_it() -> None:
    assert made(read(call_text("write", text="a </tool_call> b <tool_call> c </think>"))) == [
        ("write", {"text": "a </tool_call> b <tool_call> c </think>"})
    ]


def test_answers_to_parallel_calls_share_a_message_and_later_ones_do_not() -> None:
    answer = ChatMessage(role="tool", content="x", call_id="1")
    flat = HERMES.merge([answer, answer, ChatMessage(role="user", content="go on"), answer])
    one = "<tool_response>\nx\n</tool_response>"
    assert [message.content for message in flat] == [f"{one}\n{one}", "go on", one]


def test_no_tools_leave_the_system_message_as_it_is() -> None:
    assert HERMES.system("Be brief.", []) == "Be brief."


def test_tools_stand_one_a_line_after_the_content() -> None:
    text = HERMES.system("Be brief.", [ToolSpec(name="a", description="é"), ToolSpec(name="b", description="")])
    assert text.startswith("Be brief.\n\n# Tools\n")
    assert '{"type": "function", "function": {"name": "a", "description": "é", "parameters": {}}}\n' in text


def test_several_calls_are_read_in_order_with_ids_of_their_own() -> None:
    message = read(f"Both.\n{call_text('a', x=1)}\n{call_text('b')}")
    assert message.content == "Both."
    assert [(call.id, call.name, call.arguments) for call in message.calls] == [("c0", "a", {"x": 1}), ("c1", "b", {})]


def test_two_calls_in_one_block_are_two_calls() -> None:
    assert made(read(block('{"name": "a"}\n{"name": "b"}'))) == [("a", {}), ("b", {})]
    assert made(read(block('{"name": "a"},\n{"name": "b"}'))) == [("a", {}), ("b", {})]
    assert made(read(block('[{"name": "a"}, {"name": "b"}]'))) == [("a", {}), ("b", {})]


def test_arguments_given_as_a_json_string_are_read() -> None:
    assert made(read(block('{"name": "a", "arguments": "{\\"x\\": 1}"}'))) == [("a", {"x": 1})]
    assert made(read(block('{"name": "a", "arguments": ""}'))) == [("a", {})]
    assert made(read(block('{"name": "a", "arguments": null}'))) == [("a", {})]


def test_a_line_break_within_a_json_string_is_read() -> None:
    assert made(read(block('{"name": "a", "arguments": {"code": "x\ny"}}'))) == [("a", {"code": "x\ny"})]


def test_a_call_that_ends_with_the_reply_needs_no_closing_tag() -> None:
    assert made(read('<tool_call>\n{"name": "a", "arguments": {"x": 1}}')) == [("a", {"x": 1})]
    assert made(read('<tool_call>{"name": "a"}<tool_call>{"name": "b"}')) == [("a", {}), ("b", {})]


def test_text_beside_calls_is_content() -> None:
    message = read(f"First.\n{call_text('a')}\nthen\n{call_text('b')}\n\nThat is all.")
    assert message.content == "First.\nthen\nThat is all."
    assert made(message) == [("a", {}), ("b", {})]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('<tool_call>\n{"name": "a", "arguments": {"x": "cut o', "ends before </tool_call>"),
        ("<tool_call>", "ends before </tool_call>"),
        (block(""), "empty"),
        (block("a(x=1)"), "not JSON"),
        (block('{"name": "a", }'), "not JSON"),
        (block('{"name": "a", "arguments": NaN}'), "NaN is not JSON"),
        (block('{"name": "a", "arguments": {"x": 1e999}}'), "too large"),
        (block('{"name": "a", "arguments": {"x": "\\ud800"}}'), "surrogate"),
        (block('{"name": "a", "arguments": {"x": ' + "9" * 5000 + "}}"), "not JSON"),
        (block('{"name": "a", "arguments": ' + "[" * 100_000 + "]" * 100_000 + "}"), "nested"),
        (block('{"name": "a", "arguments": [' + "[" * DEEPEST + "]" * DEEPEST + "]}"), "nested"),
        (block('{"name": 5}'), '"name"'),
        (block('{"arguments": {}}'), '"name"'),
        (block('{"name": "", "arguments": {}}'), '"name"'),
        (block('{"name": "a", "parameters": {"x": 1}}'), "no \"arguments\", but 'parameters'"),
        (block('{"name": "a", "arguments": [1]}'), "must be a JSON object"),
        (block('{"name": "a", "arguments": "ls -l"}'), "cannot be read"),
        (block("[]"), "empty list"),
        (block("[5]"), "a call is a JSON object"),
    ],
)
def test_what_is_no_call_tells_the_policy_why(text: str, words: str) -> None:
    message = read(text)
    assert message.content == ""
    assert made(message) == []
    (problem,) = problems(message)
    assert words in problem


def test_a_brace_too_many_is_reported_beside_the_call() -> None:
    message = read(block('{"name": "a"}}'))
    assert made(message) == [("a", {})]
    assert problems(message) == ["there is more than JSON in the call"]


def test_a_broken_call_does_not_take_the_next_one_with_it() -> None:
    message = read(f'<tool_call>{{"name": "a", {call_text("b")}{block("?")}{call_text("c")}')
    assert made(message) == [("b", {}), ("c", {})]
    assert len(problems(message)) == 2


def test_a_half_written_tag_is_content() -> None:
    assert read("I will <tool_ca") == ChatMessage(role="assistant", content="I will <tool_ca")


def test_thinking_is_no_content_and_calls_in_it_are_only_thoughts() -> None:
    message = read(f"<think>\nMaybe {call_text('a')}?\n</think>\n\nNo.\n{call_text('b')}")
    assert message.thinking.startswith("Maybe <tool_call>")
    assert message.content == "No."
    assert made(message) == [("b", {})]


def test_thinking_whose_opening_tag_the_template_wrote_is_thinking() -> None:
    message = read(f"Maybe {call_text('a')}?\n</think>\n\nYes.\n{call_text('b', x='</think>')}")
    assert message.thinking == f"Maybe {call_text('a')}?"
    assert message.content == "Yes."
    assert made(message) == [("b", {"x": "</think>"})]


def test_thinking_that_was_cut_off_is_thinking() -> None:
    assert read("<think>\nLet me <tool_call>") == ChatMessage(role="assistant", thinking="Let me <tool_call>")


def test_no_thoughts_between_the_tags_are_no_thinking() -> None:
    assert read("<think>\n\n</think>\n\nHello") == ChatMessage(role="assistant", content="Hello")


def test_millions_of_characters_of_broken_calls_are_read_without_end_effects() -> None:
    for unit in ("<tool_call>", '<tool_call>{"a": "', "<tool_call>[", "</think>", "<think>", "\\", "<\\tool_call>"):
        message = read(unit * (4_000_000 // len(unit)))
        assert len(message.calls) <= 40


def test_a_huge_argument_and_many_calls_are_read() -> None:
    text = "x" * 2_000_000
    assert made(read(call_text("a", text=text))) == [("a", {"text": text})]
    assert len(read(call_text("a") * 50_000).calls) == 50_000
