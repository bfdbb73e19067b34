"""The Messages API as Anthropic's own SDK speaks and understands it."""

import json
from itertools import groupby
from typing import Any

import pytest
from anthropic import Anthropic, APIStatusError, BadRequestError
from anthropic.types import Message, MessageTokensCount
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.backends.gateway.wire.conftest import Desk
from tests.backends.gateway.wire.conversations import conversations, cut, replies

from tumbler.contracts.chat import ChatCall, ChatMessage, ChatReply, Usage
from tumbler.contracts.values import ToolSpec
from tumbler_backends.gateway.wire.format import BadRequest, GatewayRequest, ReplyHead
from tumbler_backends.gateway.wire.messages import Messages

WIRE = Messages()
HEAD = ReplyHead(id="msg_1", model="policy", created=1700000000)
USER = {"role": "user", "content": "hi"}
LOOK = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
LEFT_OUT = "[image left out: this model reads text only]"


@pytest.fixture
def client(desk: Desk):
    with Anthropic(base_url=desk.url, api_key="secret", max_retries=0) as client:
        yield client


def read(body: dict[str, Any]) -> GatewayRequest:
    return WIRE.read({"max_tokens": 8, "messages": [USER]} | body, {})


def as_sent(messages: list[ChatMessage]) -> dict[str, Any]:
    """A conversation as a client of this API sends it: the answers to all calls of a reply in one message."""
    body: dict[str, Any] = {"messages": []}
    if messages[0].role == "system":
        body["system"], messages = [{"type": "text", "text": messages[0].content}], messages[1:]
    for of_tools, group in groupby(messages, key=lambda message: message.role == "tool"):
        if of_tools:
            results = [
                {
                    "type": "tool_result",
                    "tool_use_id": each.call_id,
                    "content": [{"type": "text", "text": each.content}],
                }
                for each in group
            ]
            body["messages"].append({"role": "user", "content": results})
        else:
            body["messages"] += [{"role": each.role, "content": blocks(each)} for each in group]
    return body


def blocks(message: ChatMessage) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    if message.thinking:
        sent.append({"type": "thinking", "thinking": message.thinking, "signature": "s"})
    if message.content:
        sent.append({"type": "text", "text": message.content})
    return sent + [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.arguments)} for call in message.calls
    ]


def test_the_sdk_asks_and_understands_the_answer(desk: Desk, client: Anthropic) -> None:
    calls = (ChatCall(id="a", name="look", arguments={"at": "ü"}), ChatCall(id="b", name="look", arguments={}))
    desk.reply = ChatReply(
        message=ChatMessage(role="assistant", content="Looking.", thinking="Hm.", calls=calls),
        stop="calls",
        usage=Usage(prompt=7, completion=5, cached=3),
    )
    answer = client.messages.create(
        model="any",
        max_tokens=9,
        system="Be brief.",
        messages=[{"role": "user", "content": "Look."}],
        tools=[LOOK],
        tool_choice={"type": "any"},
        stop_sequences=["END"],
    )
    assert desk.requests == [
        GatewayRequest(
            model="any",
            messages=(ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Look.")),
            tools=(ToolSpec(name="look", description="Looks.", parameters={"type": "object"}),),
            tool_choice="required",
            max_tokens=9,
            stop=("END",),
            stream_usage=True,
        )
    ]
    assert desk.secrets == ["secret"]
    assert [block.type for block in answer.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block.input for block in answer.content if block.type == "tool_use"] == [{"at": "ü"}, {}]
    assert answer.stop_reason == "tool_use"
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens, answer.usage.output_tokens) == (4, 3, 5)


@given(conversations())
def test_any_conversation_is_read_as_it_was_sent(messages: list[ChatMessage]) -> None:
    assert list(read(as_sent(messages)).messages) == messages


@given(replies)
def test_a_reply_that_the_sdk_hands_back_is_read_as_it_was_given(reply: ChatReply) -> None:
    answer = Message.model_validate(json.loads(json.dumps(WIRE.write(reply, read({}), HEAD))))
    sent = [USER, json.loads(answer.model_dump_json(include={"role", "content"})), USER]
    assert read({"messages": sent}).messages[1] == reply.message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reply=replies, points=st.lists(st.integers(0, 12), max_size=3))
def test_a_streamed_reply_comes_to_the_same_as_a_whole_one(
    desk: Desk, client: Anthropic, reply: ChatReply, points: list[int]
) -> None:
    desk.reply, desk.pieces = reply, cut(points, reply.message.content) if points else ()
    with client.messages.stream(model="policy", max_tokens=8, messages=[USER]) as stream:
        streamed = stream.get_final_message()
    whole = client.messages.create(model="policy", max_tokens=8, messages=[USER])
    # Content that was told in pieces comes before the thinking, which is known only with the whole reply.
    in_order = sorted(streamed.content, key=lambda block: ["thinking", "text", "tool_use"].index(block.type))
    assert [block.to_dict() for block in in_order] == [block.to_dict() for block in whole.content]
    assert (streamed.stop_reason, streamed.id, streamed.model) == (whole.stop_reason, whole.id, whole.model)
    assert streamed.usage.to_dict() == whole.usage.to_dict()


def test_the_events_of_a_stream_are_in_anthropics_order(desk: Desk, client: Anthropic) -> None:
    calls = (ChatCall(id="a", name="look", arguments={}),)
    desk.reply = ChatReply(
        message=ChatMessage(role="assistant", content="Hi", thinking="Hm", calls=calls), stop="calls"
    )
    stream = client.messages.create(model="policy", max_tokens=8, messages=[USER], stream=True)
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert [event.type for event in stream] == [
        "message_start",
        *["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"],
        *block,
        *block,
        "message_delta",
        "message_stop",
    ]


def test_a_block_that_streaming_began_is_closed_even_if_the_reply_says_other_words(
    desk: Desk, client: Anthropic
) -> None:
    desk.reply, desk.pieces = ChatReply(message=ChatMessage(role="assistant", content="other")), ("said",)
    with client.messages.stream(model="policy", max_tokens=8, messages=[USER]) as stream:
        assert stream.get_final_text() == "said"


def test_the_results_of_parallel_calls_come_before_what_the_user_says_beside_them() -> None:
    content = [
        {"type": "text", "text": "Go on."},
        {"type": "tool_result", "tool_use_id": "a", "content": "1"},
        {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "2"}, IMAGE]},
    ]
    assert read({"messages": [{"role": "user", "content": content}]}).messages == (
        ChatMessage(role="tool", content="1", call_id="a"),
        ChatMessage(role="tool", content=f"2\n{LEFT_OUT}", call_id="b"),
        ChatMessage(role="user", content="Go on."),
    )


@pytest.mark.parametrize(
    ("block", "content"),
    [
        ({"content": []}, ""),
        ({}, ""),
        ({"is_error": True}, "error"),
        ({"is_error": True, "content": "no such file"}, "no such file"),
        ({"content": [{"type": "search_result", "title": "T", "content": [{"type": "text", "text": "x"}]}]}, "T\nx"),
        ({"content": [{"type": "document", "source": {"type": "text", "data": "words"}}]}, "words"),
        (
            {"content": [{"type": "document", "source": {"type": "base64", "data": "AA"}}]},
            "[document left out: this model reads text only]",
        ),
        ({"content": [{"type": "tool_reference", "tool_name": "look"}]}, "look"),
    ],
)
def test_a_result_is_read_whatever_it_is_made_of(block: dict[str, Any], content: str) -> None:
    sent = {"type": "tool_result", "tool_use_id": "a"} | block
    assert read({"messages": [{"role": "user", "content": [sent]}]}).messages == (
        ChatMessage(role="tool", content=content, call_id="a"),
    )


@pytest.mark.parametrize("hash_", ["eb6c6", "00000"])
def test_the_line_that_claude_code_changes_with_each_request_is_no_part_of_the_prompt(hash_: str) -> None:
    line = f"x-anthropic-billing-header: cc_version=2.1.100; cc_entrypoint=cli; cch={hash_};"
    text = {"type": "text", "text": "You help.", "cache_control": {"type": "ephemeral"}}
    as_blocks = read({"system": [{"type": "text", "text": line}, text]})
    as_string = read({"system": f"{line}\nYou help."})
    assert as_blocks.messages[0] == as_string.messages[0] == ChatMessage(role="system", content="You help.")


def test_thoughts_that_only_anthropic_can_read_are_left_out() -> None:
    content = [{"type": "redacted_thinking", "data": "AA"}, {"type": "text", "text": "x"}]
    messages = read({"messages": [USER, {"role": "assistant", "content": content}, USER]}).messages
    assert messages[1] == ChatMessage(role="assistant", content="x")


def test_system_messages_may_stand_within_the_conversation() -> None:
    late = {"role": "system", "content": [{"type": "text", "text": "Hurry."}]}
    assert read({"messages": [USER, late]}).messages[1] == ChatMessage(role="system", content="Hurry.")


def test_tools_of_anthropics_servers_are_not_offered_to_the_policy() -> None:
    hosted = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
    assert [tool.name for tool in read({"tools": [LOOK, hosted]}).tools] == ["look"]


def test_a_choice_of_one_tool_leaves_that_tool_alone() -> None:
    other = LOOK | {"name": "other"}
    chosen = read({"tools": [LOOK, other], "tool_choice": {"type": "tool", "name": "other"}})
    assert ([tool.name for tool in chosen.tools], chosen.tool_choice) == (["other"], "required")
    assert read({"tools": [LOOK], "tool_choice": {"type": "none"}}).tool_choice == "none"


@pytest.mark.parametrize(
    ("more", "parameter", "words"),
    [
        ({"messages": []}, "messages", "at least one"),
        ({"messages": [USER, {"role": "assistant", "content": "{"}]}, "messages", "does not go on"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", ""),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "messages.0.content.0", "'audio'"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "messages.0.content.0", "which call"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"tools": [{"name": "bash", "type": "bash_20250124"}]}, "tools.0.input_schema", "'bash'"),
        ({"tools": [LOOK], "tool_choice": {"type": "tool", "name": "lok"}}, "tool_choice", "'lok'"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "output_config", "'json_schema'"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_place(more: dict[str, Any], parameter: str, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(more)
    assert caught.value.parameter == parameter
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind", "type_"),
    [
        (400, "context_length_exceeded", "invalid_request_error"),
        (401, "authentication_error", "authentication_error"),
        (410, "session_over", "invalid_request_error"),
        (429, "insufficient_quota", "rate_limit_error"),
        (500, "api_error", "api_error"),
        (503, "overloaded_error", "overloaded_error"),
    ],
)
def test_errors_are_those_of_the_sdk(desk: Desk, client: Anthropic, status: int, kind: str, type_: str) -> None:
    desk.failure = (status, kind, "what is wrong")
    with pytest.raises(APIStatusError) as caught:
        client.messages.create(model="policy", max_tokens=8, messages=[USER])
    assert caught.value.status_code == status
    assert caught.value.body == {"type": "error", "error": {"type": type_, "message": "what is wrong"}}


def test_a_refused_request_names_the_place(desk: Desk, client: Anthropic) -> None:
    with pytest.raises(BadRequestError, match=r"max_tokens: Input should be greater"):
        client.messages.create(model="policy", max_tokens=0, messages=[USER])


def test_a_stream_that_breaks_off_raises_in_the_sdk(desk: Desk, client: Anthropic) -> None:
    desk.failure, desk.pieces = (529, "overloaded_error", "the model failed"), ("Hel",)
    with pytest.raises(APIStatusError, match="the model failed"):
        list(client.messages.create(model="policy", max_tokens=8, messages=[USER], stream=True))


def test_counted_tokens_are_told_as_the_sdk_expects() -> None:
    assert MessageTokensCount.model_validate(WIRE.count(7)).input_tokens == 7


@pytest.mark.parametrize(
    ("headers", "secret"),
    [
        ({"x-api-key": "k"}, "k"),
        ({"authorization": "Bearer t"}, "t"),
        ({"x-api-key": "k", "authorization": "Bearer t"}, "k"),
        ({"x-api-key": " "}, None),
    ],
)
def test_the_secret_is_the_api_key_or_the_bearer_token(headers: dict[str, str], secret: str | None) -> None:
    assert WIRE.secret(headers) == secret
