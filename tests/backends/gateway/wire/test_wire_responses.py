"""The Responses API as OpenAI's own SDK speaks and understands it."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import BadRequestError, OpenAI
from openai.types.responses import Response
from tests.backends.gateway.wire.conftest import Desk
from tests.backends.gateway.wire.conversations import conversations, cut, replies

from tumbler.contracts.chat import ChatCall, ChatMessage, ChatReply, Usage
from tumbler.contracts.values import ToolSpec
from tumbler_backends.gateway.wire.format import BadRequest, GatewayRequest, ReplyHead
from tumbler_backends.gateway.wire.responses import Responses

WIRE = Responses()
HEAD = ReplyHead(id="resp_1", model="policy", created=1700000000)
LOOK = {"type": "function", "name": "look", "description": "Looks.", "parameters": {"type": "object"}, "strict": None}
PATCH = {"type": "custom", "name": "patch", "description": "Patches.", "format": {"type": "text"}}
NAMESPACE = {"type": "namespace", "name": "mcp__crm", "description": "", "tools": [LOOK]}
USER = {"type": "message", "role": "user", "content": "hi"}


@pytest.fixture
def client(desk: Desk):
    with OpenAI(base_url=f"{desk.url}/v1", api_key="secret", max_retries=0) as client:
        yield client


def read(body: dict[str, Any]) -> GatewayRequest:
    return WIRE.read({"input": "hi"} | body, {})


def written(reply: ChatReply, **body: Any) -> Response:
    return Response.model_validate(json.loads(json.dumps(WIRE.write(reply, read(body), HEAD))))


def items(message: ChatMessage) -> list[dict[str, Any]]:
    """A message as a client of this API sends it."""
    if message.role == "tool":
        output = [{"type": "input_text", "text": message.content}]
        return [{"type": "function_call_output", "call_id": message.call_id, "output": output}]
    if message.role != "assistant":
        return [{"role": message.role, "content": [{"type": "input_text", "text": message.content}]}]
    sent: list[dict[str, Any]] = []
    if message.thinking:
        content = [{"type": "reasoning_text", "text": message.thinking}]
        sent.append({"type": "reasoning", "id": "rs", "summary": [], "content": content})
    if message.content:
        content = [{"type": "output_text", "text": message.content, "annotations": []}]
        sent.append({"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": content})
    return sent + [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": json.dumps(call.arguments)}
        for call in message.calls
    ]


def call(index: int = 0, name: str = "look", **arguments: Any) -> ChatCall:
    return ChatCall(id=f"call_{index}", name=name, arguments=arguments)


def test_the_sdk_asks_and_understands_the_answer(desk: Desk, client: OpenAI) -> None:
    desk.reply = ChatReply(
        message=ChatMessage(role="assistant", content="Looking.", thinking="Hm.", calls=(call(at="ü"), call(1))),
        stop="calls",
        usage=Usage(prompt=7, completion=5, cached=3),
    )
    answer = client.responses.create(
        model="any",
        instructions="Be brief.",
        input="Look.",
        tools=[LOOK],
        tool_choice="required",
        max_output_tokens=9,
        temperature=0.5,
        store=False,
        include=["reasoning.encrypted_content"],
    )
    (request,) = desk.requests
    assert request.messages == (
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content="Look."),
    )
    assert request.tools == (ToolSpec(name="look", description="Looks.", parameters={"type": "object"}),)
    assert (request.tool_choice, request.max_tokens, request.temperature) == ("required", 9, 0.5)
    assert desk.secrets == ["secret"]
    assert (answer.id, answer.status, answer.model) == ("id_1", "completed", "policy")
    assert [item.type for item in answer.output] == ["reasoning", "message", "function_call", "function_call"]
    assert answer.output_text == "Looking."
    assert [json.loads(item.arguments) for item in answer.output if item.type == "function_call"] == [{"at": "ü"}, {}]
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (7, 5, 12)
    assert answer.usage.input_tokens_details.cached_tokens == 3


@given(conversations())
def test_any_conversation_is_read_as_it_was_sent(messages: list[ChatMessage]) -> None:
    assert list(read({"input": [item for message in messages for item in items(message)]}).messages) == messages


@given(replies)
def test_a_reply_that_the_sdk_hands_back_is_read_as_it_was_given(reply: ChatReply) -> None:
    output = [json.loads(item.model_dump_json(exclude_none=True)) for item in written(reply).output]
    assert read({"input": [USER, *output, USER]}).messages[1] == reply.message


@given(replies)
def test_thoughts_come_back_from_clients_that_keep_only_the_sealed_ones(reply: ChatReply) -> None:
    output = [
        json.loads(item.model_dump_json(exclude={"content"} if item.type == "reasoning" else set()))
        for item in written(reply).output
    ]
    assert read({"input": [USER, *output, USER]}).messages[1].thinking == reply.message.thinking


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reply=replies, points=st.lists(st.integers(0, 12), max_size=3))
def test_a_streamed_reply_comes_to_the_same_as_a_whole_one(
    desk: Desk, client: OpenAI, reply: ChatReply, points: list[int]
) -> None:
    desk.reply, desk.pieces = reply, cut(points, reply.message.content) if points else ()
    with client.responses.stream(model="policy", input="hi", tools=[]) as stream:
        events = list(stream)
        streamed = stream.get_final_response()
    whole = client.responses.create(model="policy", input="hi")
    # Content that was told in pieces comes before the thinking, which is known only with the whole reply.
    order = ["reasoning", "message", "function_call"]
    in_order = sorted(streamed.to_dict()["output"], key=lambda item: order.index(item["type"]))
    assert [_bare(item) for item in in_order] == [_bare(item) for item in whole.to_dict()["output"]]
    assert streamed.usage == whole.usage
    assert [event.sequence_number for event in events] == list(range(len(events)))


def _bare(item: dict[str, Any]) -> dict[str, Any]:
    """An item without what the SDK adds to it."""
    bare = {key: value for key, value in item.items() if key != "parsed_arguments"}
    if item["type"] == "message":
        bare["content"] = [{key: part[key] for key in ("type", "text")} for part in item["content"]]
    return bare


def test_the_events_of_a_stream_are_in_openais_order(desk: Desk, client: OpenAI) -> None:
    desk.reply = ChatReply(
        message=ChatMessage(role="assistant", content="Hi", thinking="Hm", calls=(call(),)), stop="calls"
    )
    stream = client.responses.create(model="policy", input="hi", stream=True)
    assert [event.type.removeprefix("response.") for event in stream] == [
        *["created", "in_progress"],
        *["output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done"],
        *["content_part.done", "output_item.done"],
        *["output_item.added", "content_part.added", "output_text.delta", "output_text.done"],
        *["content_part.done", "output_item.done"],
        *["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"],
        "completed",
    ]


@pytest.mark.parametrize("stop", ["length", "abort"])
def test_a_reply_that_was_cut_off_is_incomplete(desk: Desk, client: OpenAI, stop: Any) -> None:
    desk.reply = ChatReply(message=ChatMessage(role="assistant", content="Hel"), stop=stop)
    answer = client.responses.create(model="policy", input="hi")
    assert answer.status == "incomplete" and answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    *_, last = client.responses.create(model="policy", input="hi", stream=True)
    assert last.type == "response.incomplete"


def test_a_tool_that_takes_free_text_is_called_with_free_text(desk: Desk, client: OpenAI) -> None:
    desk.reply = ChatReply(
        message=ChatMessage(role="assistant", calls=(call(name="patch", input="*** Begin"),)), stop="calls"
    )
    answer = client.responses.create(model="policy", input="hi", tools=[PATCH])
    (item,) = answer.output
    assert item.type == "custom_tool_call" and item.input == "*** Begin"
    assert desk.requests[0].tools[0].parameters["required"] == ["input"]
    stream = client.responses.create(model="policy", input="hi", tools=[PATCH], stream=True)
    assert [event.delta for event in stream if event.type == "response.custom_tool_call_input.delta"] == ["*** Begin"]
    output = {"type": "custom_tool_call_output", "call_id": item.call_id, "output": "done"}
    again = read({"input": [USER, json.loads(item.model_dump_json(exclude_none=True)), output], "tools": [PATCH]})
    assert again.messages[1:] == (desk.reply.message, ChatMessage(role="tool", content="done", call_id="call_0"))


def test_a_tool_of_a_namespace_is_called_by_the_names_that_the_client_gave() -> None:
    assert [tool.name for tool in read({"tools": [NAMESPACE]}).tools] == ["mcp__crm__look"]
    reply = ChatReply(message=ChatMessage(role="assistant", calls=(call(name="mcp__crm__look"),)), stop="calls")
    (item,) = written(reply, tools=[NAMESPACE]).output
    assert item.type == "function_call" and (item.namespace, item.name) == ("mcp__crm", "look")
    again = read({"input": [USER, json.loads(item.model_dump_json(exclude_none=True))], "tools": [NAMESPACE]})
    assert again.messages[1] == reply.message


def test_tools_of_openais_servers_are_not_offered_to_the_policy() -> None:
    hosted = [{"type": "web_search", "external_web_access": False}, {"type": "image_generation"}]
    assert [tool.name for tool in read({"tools": [LOOK, *hosted]}).tools] == ["look"]


def test_items_of_one_reply_are_one_message_and_those_of_two_are_two() -> None:
    said = {"type": "message", "role": "assistant", "content": "x"}
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
    done = {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"}
    answer = {"type": "function_call_output", "call_id": "a", "output": "1"}
    conversation = read({"input": [USER, thought, said, done, answer, said, thought, done, said]}).messages
    made = ChatCall(id="a", name="look", arguments={})
    assert conversation == (
        ChatMessage(role="user", content="hi"),
        ChatMessage(role="assistant", content="x", thinking="Hm.", calls=(made,)),
        ChatMessage(role="tool", content="1", call_id="a"),
        ChatMessage(role="assistant", content="x"),
        ChatMessage(role="assistant", content="x", thinking="Hm.", calls=(made,)),
    )


def test_thoughts_that_others_have_sealed_say_nothing() -> None:
    sealed = [{"type": "reasoning", "summary": [], "encrypted_content": text} for text in ("gAAAA", "tumbler:%")]
    assert read({"input": [USER, *sealed]}).messages == (ChatMessage(role="user", content="hi"),)


def test_a_request_may_go_on_from_an_answer() -> None:
    request = read({"previous_response_id": "resp_7", "input": []})
    assert (request.previous, request.messages) == ("resp_7", ())


def test_developers_speak_as_the_system_anywhere() -> None:
    late = {"role": "developer", "content": "Hurry."}
    assert [message.role for message in read({"input": [USER, late]}).messages] == ["user", "system"]


def test_a_choice_of_one_tool_leaves_that_tool_alone() -> None:
    tools = [LOOK, PATCH]
    one = read({"tools": tools, "tool_choice": {"type": "custom", "name": "patch"}})
    assert ([tool.name for tool in one.tools], one.tool_choice) == (["patch"], "required")
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "look"}]}
    some = read({"tools": tools, "tool_choice": allowed})
    assert ([tool.name for tool in some.tools], some.tool_choice) == (["look"], "auto")


@pytest.mark.parametrize(
    ("more", "parameter", "words"),
    [
        ({"input": []}, "input", "some"),
        ({"input": [{"role": "judge", "content": "x"}]}, "input.0.role", "'judge'"),
        ({"input": [{"type": "item_reference", "id": "m"}]}, "input.0.type", "'item_reference'"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input.0.call_id", "which call"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input.0.content.0", "'input_audio'"),
        ({"background": True}, "background", "false"),
        ({"conversation": "conv_1"}, "conversation", "`input`"),
        ({"prompt": {"id": "p"}}, "prompt", "`input`"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}}, "text.format", "'json_schema'"),
        ({"tools": [{"type": "local_shell"}]}, "tools.0", "'local_shell'"),
        ({"tools": [LOOK], "tool_choice": "always"}, "tool_choice", "'always'"),
        ({"tools": [LOOK], "tool_choice": {"type": "web_search"}}, "tool_choice", "'web_search'"),
        ({"tools": [LOOK], "tool_choice": {"type": "function", "name": "lok"}}, "tool_choice", "'lok'"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_place(more: dict[str, Any], parameter: str, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(more)
    assert caught.value.parameter == parameter
    assert words in str(caught.value)


def test_errors_are_those_of_the_sdk(desk: Desk, client: OpenAI) -> None:
    desk.failure = (400, "context_length_exceeded", "too long")
    with pytest.raises(BadRequestError) as caught:
        client.responses.create(model="policy", input="hi")
    assert caught.value.code == "context_length_exceeded"


def test_a_stream_that_breaks_off_ends_with_a_failed_answer(desk: Desk, client: OpenAI) -> None:
    desk.failure, desk.pieces = (503, "overloaded_error", "the model failed"), ("Hel",)
    *_, last = client.responses.create(model="policy", input="hi", stream=True)
    assert last.type == "response.failed" and last.response.error is not None
    assert (last.response.status, last.response.error.message) == ("failed", "the model failed")
