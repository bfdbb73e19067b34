"""Chat completions as OpenAI's own SDK speaks and understands them."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import APIError, BadRequestError, OpenAI
from openai.types.chat import ChatCompletion
from tests.backends.gateway.wire.conftest import Desk
from tests.backends.gateway.wire.conversations import conversations, cut, replies

from tumbler.contracts.chat import ChatCall, ChatMessage, ChatReply, Sampled, Usage
from tumbler_backends.gateway.wire.chat_completions import ChatCompletions
from tumbler_backends.gateway.wire.format import BadRequest, GatewayRequest, ReplyHead

WIRE = ChatCompletions()
HEAD = ReplyHead(id="id_1", model="policy", created=1700000000)
USER = {"role": "user", "content": "hi"}
LOOK = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}}


@pytest.fixture
def client(desk: Desk):
    with OpenAI(base_url=f"{desk.url}/v1", api_key="secret", max_retries=0) as client:
        yield client


def read(body: dict[str, Any]) -> GatewayRequest:
    return WIRE.read(body, {})


def as_sent(message: ChatMessage) -> dict[str, Any]:
    """A message as a client of this API sends it."""
    sent: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        sent["reasoning_content"] = message.thinking
    if message.calls:
        sent["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call in message.calls
        ]
    if message.role == "tool":
        sent["tool_call_id"] = message.call_id
    return sent


def call(index: int = 0, **arguments: Any) -> ChatCall:
    return ChatCall(id=f"call_{index}", name="look", arguments=arguments)


def test_the_sdk_asks_and_understands_the_answer(desk: Desk, client: OpenAI) -> None:
    desk.reply = ChatReply(
        message=ChatMessage(role="assistant", content="Looking.", thinking="Hm.", calls=(call(at="ü"), call(1))),
        stop="calls",
        usage=Usage(prompt=7, completion=5, cached=3),
    )
    answer = client.chat.completions.create(
        model="any",
        messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Look."}],
        tools=[LOOK],
        tool_choice="required",
        max_completion_tokens=9,
        temperature=0.5,
        stop=["END"],
    )
    assert desk.requests == [
        GatewayRequest(
            model="any",
            messages=(
                ChatMessage(role="system", content="Be brief."),
                ChatMessage(role="user", content="Look."),
            ),
            tools=read({"messages": [USER], "tools": [LOOK]}).tools,
            tool_choice="required",
            max_tokens=9,
            temperature=0.5,
            stop=("END",),
        )
    ]
    assert desk.requests[0].tools[0].parameters == {"type": "object"}
    assert desk.secrets == ["secret"]
    (choice,) = answer.choices
    assert (answer.id, answer.model, choice.finish_reason) == ("id_1", "policy", "tool_calls")
    assert choice.message.content == "Looking."
    assert choice.message.to_dict()["reasoning_content"] == "Hm."
    assert [(each.id, json.loads(each.function.arguments)) for each in choice.message.tool_calls or []] == [
        ("call_0", {"at": "ü"}),
        ("call_1", {}),
    ]
    assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 5, 12)
    assert answer.usage.prompt_tokens_details.cached_tokens == 3


@given(conversations())
def test_any_conversation_is_read_as_it_was_sent(messages: list[ChatMessage]) -> None:
    assert list(read({"messages": [as_sent(message) for message in messages]}).messages) == messages


@given(replies)
def test_a_reply_that_the_sdk_hands_back_is_read_as_it_was_given(reply: ChatReply) -> None:
    request = read({"messages": [USER]})
    answer = ChatCompletion.model_validate(json.loads(json.dumps(WIRE.write(reply, request, HEAD))))
    again = {"messages": [USER, answer.choices[0].message.model_dump(), USER]}
    assert read(again).messages[1] == reply.message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reply=replies, points=st.lists(st.integers(0, 12), max_size=3))
def test_a_streamed_reply_comes_to_the_same_as_a_whole_one(
    desk: Desk, client: OpenAI, reply: ChatReply, points: list[int]
) -> None:
    desk.reply, desk.pieces = reply, cut(points, reply.message.content) if points else ()
    with client.chat.completions.stream(
        model="policy", messages=[USER], stream_options={"include_usage": True}
    ) as stream:
        streamed = stream.get_final_completion()
    whole = client.chat.completions.create(model="policy", messages=[USER])
    ours, theirs = whole.choices[0], streamed.choices[0]
    assert (theirs.message.content or None) == ours.message.content
    assert theirs.finish_reason == ours.finish_reason
    assert streamed.usage == whole.usage
    assert [(each.id, each.function.name, each.function.arguments) for each in theirs.message.tool_calls or []] == [
        (each.id, each.function.name, each.function.arguments) for each in ours.message.tool_calls or []
    ]


def test_a_stream_tells_the_usage_only_where_it_is_asked_for(desk: Desk, client: OpenAI) -> None:
    desk.reply = ChatReply(message=ChatMessage(role="assistant", content="Hi.", thinking="Hm."))
    chunks = list(client.chat.completions.create(model="policy", messages=[USER], stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert [chunk.choices[0].delta.to_dict().get("reasoning_content") for chunk in chunks] == [None, "Hm.", None, None]
    assert chunks[-1].choices[0].finish_reason == "stop"
    asked = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="policy", messages=[USER], stream=True, stream_options=asked))
    assert [chunk.usage is not None for chunk in chunks] == [False] * 4 + [True]


def test_log_probabilities_come_with_the_ids_of_all_tokens_where_they_are_asked_for(desk: Desk, client: OpenAI) -> None:
    desk.reply = ChatReply(message=ChatMessage(role="assistant", content="é!"))
    sampled = Sampled(prompt_ids=(1, 2), ids=(3, 4), logprobs=(-0.5, -1.0), pieces=("é", "!"))
    desk.reply = replace(desk.reply, sampled=sampled)
    answer = client.chat.completions.create(model="policy", messages=[USER], logprobs=True)
    (choice,) = answer.choices
    assert choice.logprobs is not None and choice.logprobs.content is not None
    assert [(each.token, each.logprob, each.bytes) for each in choice.logprobs.content] == [
        ("é", -0.5, [195, 169]),
        ("!", -1.0, [33]),
    ]
    assert (choice.to_dict()["token_ids"], answer.to_dict()["prompt_token_ids"]) == ([3, 4], [1, 2])
    *_, last = client.chat.completions.create(model="policy", messages=[USER], logprobs=True, stream=True)
    assert last.choices[0].to_dict()["token_ids"] == [3, 4]
    assert last.to_dict()["prompt_token_ids"] == [1, 2]
    plain = client.chat.completions.create(model="policy", messages=[USER]).to_dict()
    assert "prompt_token_ids" not in plain


def test_ids_can_be_asked_for_in_the_manner_of_vllm() -> None:
    assert read({"messages": [USER], "return_token_ids": True}).logprobs


@pytest.mark.parametrize("stop", ["length", "abort"])
def test_a_reply_that_was_cut_off_says_so_even_with_calls(stop: Any) -> None:
    reply = ChatReply(message=ChatMessage(role="assistant", calls=(call(),)), stop=stop)
    answer = ChatCompletion.model_validate(WIRE.write(reply, read({"messages": [USER]}), HEAD))
    assert answer.choices[0].finish_reason == "length"


def test_a_call_that_cannot_be_carried_out_is_told_in_words_and_never_as_a_call() -> None:
    broken = ChatCall(id="call_0", name="look", arguments={}, problem="no JSON")
    reply = ChatReply(message=ChatMessage(role="assistant", content="Look:", calls=(broken,)), stop="calls")
    answer = ChatCompletion.model_validate(WIRE.write(reply, read({"messages": [USER]}), HEAD))
    assert answer.choices[0].message.content == "Look:\n[call not made: no JSON]"
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason == "stop"


def test_errors_are_those_of_the_sdk(desk: Desk, client: OpenAI) -> None:
    desk.failure = (400, "context_length_exceeded", "too long")
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model="policy", messages=[USER])
    assert (caught.value.code, caught.value.type) == ("context_length_exceeded", "invalid_request_error")
    assert "too long" in caught.value.message
    desk.failure = None
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model="policy", messages=[USER], n=2)
    assert caught.value.param == "n"


def test_a_stream_that_breaks_off_raises_in_the_sdk(desk: Desk, client: OpenAI) -> None:
    desk.failure, desk.pieces = (503, "overloaded_error", "the model failed"), ("Hel",)
    with pytest.raises(APIError, match="the model failed"):
        list(client.chat.completions.create(model="policy", messages=[USER], stream=True))


@pytest.mark.parametrize(
    ("more", "parameter", "words"),
    [
        ({"messages": []}, "messages", "at least one"),
        ({"messages": "hi"}, "messages", "list"),
        ({"messages": [{"content": "x"}]}, "messages.0.role", "required"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages.0.role", "none of system"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id", "which call"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "messages.0.content.0.text", ""),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "messages.0.content.0",
            "'input_audio'",
        ),
        ({"n": 3}, "n", "not 3"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"temperature": -1}, "temperature", ""),
        ({"top_logprobs": 2, "logprobs": True}, "top_logprobs", "sampled"),
        ({"response_format": {"type": "json_object"}}, "response_format", "'json_object'"),
        ({"modalities": ["text", "audio"]}, "modalities", "text only"),
        ({"functions": [{"name": "f"}]}, "functions", "`tools`"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0", "'custom'"),
        ({"tools": [LOOK], "tool_choice": "always"}, "tool_choice", "required"),
        (
            {"tools": [LOOK], "tool_choice": {"type": "function", "function": {"name": "lok"}}},
            "tool_choice",
            "'lok'",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_place(more: dict[str, Any], parameter: str, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read({"messages": [USER]} | more)
    assert caught.value.parameter == parameter
    assert words in str(caught.value) and parameter.partition(".")[0] in str(caught.value)


def test_parts_are_joined_and_images_leave_a_word() -> None:
    parts = [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "text", "text": "this."},
    ]
    (message,) = read({"messages": [{"role": "user", "content": parts}]}).messages
    assert message.content == "See\n[image left out: this model reads text only]\nthis."


def test_system_messages_may_stand_anywhere_and_fields_that_change_nothing_are_ignored() -> None:
    late = {"role": "system", "content": "Hurry.", "name": "boss"}
    body = {"messages": [USER, late], "seed": 1, "parallel_tool_calls": True, "user": "me", "tools": None}
    assert [message.role for message in read(body).messages] == ["user", "system"]


def test_a_choice_of_one_tool_leaves_that_tool_alone() -> None:
    other = {"type": "function", "function": {"name": "other"}}
    body = {"messages": [USER], "tools": [LOOK, other]}
    one = read(body | {"tool_choice": {"type": "function", "function": {"name": "other"}}})
    assert ([tool.name for tool in one.tools], one.tool_choice) == (["other"], "required")
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "look"}}]}
    some = read(body | {"tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}})
    assert ([tool.name for tool in some.tools], some.tool_choice) == (["look"], "auto")


def test_broken_arguments_in_a_history_do_not_end_the_conversation() -> None:
    function = {"name": "look", "arguments": '{"at": '}
    sent = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}
    (message,) = read({"messages": [sent]}).messages
    assert message.calls[0].arguments == {} and "cannot be read" in (message.calls[0].problem or "")


def test_line_separators_within_a_piece_do_not_split_an_event() -> None:
    events = WIRE.events(read({"messages": [USER]}), HEAD)
    assert events.text("a\u2028b\x85c\n").decode().splitlines()[1:] == [""]


@pytest.mark.parametrize(
    ("headers", "secret"),
    [
        ({"authorization": "Bearer s"}, "s"),
        ({"authorization": "bearer  s "}, "s"),
        ({"authorization": "Basic s"}, None),
        ({"authorization": "Bearer "}, None),
        ({"api-key": "s"}, "s"),
        ({}, None),
    ],
)
def test_the_secret_is_found_wherever_clients_put_it(headers: dict[str, str], secret: str | None) -> None:
    assert WIRE.secret(headers) == secret
