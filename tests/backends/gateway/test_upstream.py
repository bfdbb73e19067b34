"""A served model: what is sent, what is read, what is tried again, and how failures are told."""

import asyncio
import json
from types import SimpleNamespace

import httpx
import pytest

from tumbler.contracts.chat import ChatCall, ChatMessage, ChatModel, Usage
from tumbler.contracts.values import ToolSpec
from tumbler.errors import ContextOverflowError, InferenceError
from tumbler_backends.gateway.upstream.model import UpstreamModel
from tumbler_backends.gateway.upstream.settings import UpstreamSettings

USER = ChatMessage(role="user", content="Go.")
LOOK = ToolSpec(name="look", description="Looks.", parameters={"type": "object"})
FINE = {
    "choices": [{"message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}},
}


def served(*answers, **settings):
    """Return a model whose server gives these answers, and the requests that it got."""
    requests: list[httpx.Request] = []
    waiting = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        given = next(waiting)
        if isinstance(given, Exception):
            raise given
        if isinstance(given, dict):
            return httpx.Response(200, json=given)
        return given

    chosen = UpstreamSettings(base_url="http://served/v1/", model="m", longest_wait=0.001, **settings)
    model = UpstreamModel(chosen, transport=httpx.MockTransport(answer))
    return SimpleNamespace(model=model, requests=requests, body=lambda index=0: json.loads(requests[index].content))


def stream(*events, end="data: [DONE]\n\n", chunk=7):
    """Return a streamed answer that arrives in blocks of `chunk` bytes."""
    text = "".join(f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events) + end
    content = text.encode()

    async def blocks():
        for start in range(0, len(content), chunk):
            yield content[start : start + chunk]

    return httpx.Response(200, content=blocks(), headers={"content-type": "text/event-stream"})


def delta(finish=None, **fields):
    return {"choices": [{"delta": fields, "finish_reason": finish}]}


async def heard(model, **options):
    """Return the reply and the pieces that were told."""
    pieces: list[str] = []

    async def on_text(piece: str) -> None:
        pieces.append(piece)

    return await model.chat([USER], on_text=on_text, **options), pieces


async def test_a_reply_and_its_usage_are_read():
    world = served(FINE)
    reply = await world.model.chat([USER])
    assert (reply.message.content, reply.text, reply.stop) == ("fine", "fine", "stop")
    assert reply.usage == Usage(prompt=5, completion=2, cached=3)
    assert str(world.requests[0].url) == "http://served/v1/chat/completions"
    assert world.body() == {"model": "m", "messages": [{"role": "user", "content": "Go."}]}
    assert isinstance(world.model, ChatModel)
    await world.model.close()


async def test_the_whole_conversation_and_all_options_are_sent():
    world = served(FINE, api_key="secret-key")
    call = ChatCall(id="c1", name="look", arguments={"at": "ä"})
    assistant = ChatMessage(role="assistant", content="I look.", thinking="hm", calls=(call,))
    answer = ChatMessage(role="tool", content="dark", call_id="c1")
    await world.model.chat([USER, assistant, answer], [LOOK], max_tokens=9, temperature=0.5, stop=["x"])
    body = world.body()
    assert body["messages"][1] == {
        "role": "assistant",
        "content": "I look.",
        "reasoning_content": "hm",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "ä"}'}}],
    }
    assert body["messages"][2] == {"role": "tool", "content": "dark", "tool_call_id": "c1"}
    assert body["tools"][0]["function"]["name"] == "look"
    assert (body["max_tokens"], body["temperature"], body["stop"]) == (9, 0.5, ["x"])
    assert world.requests[0].headers["authorization"] == "Bearer secret-key"


async def test_a_key_is_in_no_text_of_the_settings():
    assert "secret-key" not in repr(UpstreamSettings(base_url="http://x", model="m", api_key="secret-key"))


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ValueError, match="is no address"):
        UpstreamSettings(base_url="localhost:8000", model="m")


async def test_calls_are_read_and_broken_arguments_are_a_problem():
    functions = [{"name": "look", "arguments": '{"at": 1}'}, {"name": "look", "arguments": '{"at'}]
    calls = [{"id": f"c{index}", "function": function} for index, function in enumerate(functions)]
    message = {"content": None, "tool_calls": calls, "reasoning_content": "hm"}
    world = served({"choices": [{"message": message, "finish_reason": "tool_calls"}]})
    reply = await world.model.chat([USER], [LOOK])
    assert (reply.stop, reply.message.content, reply.message.thinking) == ("calls", "", "hm")
    good, bad = reply.message.calls
    assert (good.id, good.arguments, good.problem) == ("c0", {"at": 1}, None)
    assert bad.arguments == {}
    assert "cannot be read" in bad.problem


async def test_a_stream_is_told_in_pieces_and_put_together():
    first = {"index": 0, "id": "c0", "function": {"name": "look", "arguments": ""}}
    second = {"index": 1, "id": "c1", "function": {"name": "look", "arguments": "{}"}}
    world = served(
        stream(
            delta(role="assistant", content=""),
            delta(reasoning_content="h"),
            delta(reasoning_content="m"),
            delta(content="I "),
            delta(content="look."),
            delta(tool_calls=[first]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": '{"at":'}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": "1}"}}, second]),
            delta(finish="tool_calls"),
            {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}},
        )
    )
    reply, pieces = await heard(world.model)
    assert pieces == ["I ", "look."]
    assert (reply.message.thinking, reply.message.content, reply.stop) == ("hm", "I look.", "calls")
    assert [(call.id, call.arguments) for call in reply.message.calls] == [("c0", {"at": 1}), ("c1", {})]
    assert reply.usage == Usage(prompt=5, completion=2)
    assert world.body()["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("text", ["a\u2028b", "a\x85b", "a\u2029b\x0cc", "ä😀" * 20])
async def test_line_separators_of_unicode_end_no_event(text):
    reply, pieces = await heard(served(stream(delta(content=text), delta(finish="stop"))).model)
    assert (reply.text, "".join(pieces)) == (text, text)


async def test_calls_without_an_index_are_told_apart_by_their_ids():
    parts = [
        {"id": "c0", "function": {"name": "look", "arguments": '{"at"'}},
        {"function": {"arguments": ":1}"}},
        {"id": "c1", "function": {"name": "look", "arguments": "{}"}},
    ]
    events = [delta(tool_calls=[part]) for part in parts]
    reply, _ = await heard(served(stream(*events, delta(finish="tool_calls"))).model)
    assert [(call.id, call.arguments) for call in reply.message.calls] == [("c0", {"at": 1}), ("c1", {})]


async def test_comments_and_other_fields_of_a_stream_are_ignored():
    text = ': ping\n\nevent: x\nid: 3\ndata: {"choices": [{"delta": {"content": "fine"}}]}\r\n\r\ndata: [DONE]'
    response = httpx.Response(200, text=text, headers={"content-type": "text/event-stream; charset=utf-8"})
    assert (await heard(served(response).model))[0].text == "fine"


async def test_a_server_that_does_not_stream_is_read_as_a_whole():
    reply, pieces = await heard(served(FINE).model)
    assert (reply.text, pieces) == ("fine", [])


async def test_a_stream_that_breaks_off_is_a_failure_and_no_short_reply():
    with pytest.raises(InferenceError, match="broke off"):
        await heard(served(stream(delta(content="fi"), end="")).model)
    with pytest.raises(InferenceError, match="broke off: out of memory"):
        await heard(served(stream(delta(content="fi"), {"error": {"message": "out of memory"}})).model)


async def test_failures_that_may_pass_are_tried_again():
    busy = [httpx.Response(status, text="busy", headers={"retry-after": "100"}) for status in (429, 503)]
    world = served(*busy, httpx.ConnectError("refused"), FINE)
    assert (await world.model.chat([USER])).text == "fine"
    assert len(world.requests) == 4


async def test_tries_are_bounded_and_the_last_failure_is_told():
    world = served(*(httpx.Response(503, text="still loading") for _ in range(3)), retries=2)
    with pytest.raises(InferenceError, match=r"answered 503: still loading \(tried 3 times\)"):
        await world.model.chat([USER])
    assert len(world.requests) == 3


async def test_nothing_is_tried_again_once_a_piece_was_told():
    async def blocks():
        yield b'data: {"choices": [{"delta": {"content": "fi"}}]}\n\n'
        raise httpx.ReadError("reset")

    broken = httpx.Response(200, content=blocks(), headers={"content-type": "text/event-stream"})
    world = served(broken, FINE)
    with pytest.raises(InferenceError, match="reset"):
        await heard(world.model)
    assert len(world.requests) == 1


@pytest.mark.parametrize(("status", "advice"), [(401, "api_key"), (403, "api_key"), (404, "base_url"), (400, "bad")])
async def test_failures_that_will_not_pass_are_told_at_once_with_advice(status, advice):
    world = served(httpx.Response(status, text="bad"))
    with pytest.raises(InferenceError, match=advice):
        await world.model.chat([USER])
    assert len(world.requests) == 1


@pytest.mark.parametrize(
    "said",
    [
        '{"error": {"code": "context_length_exceeded"}}',
        "This model's maximum context length is 4096 tokens.",
        "prompt is too long: 9 tokens",
        '{"error": {"type": "exceed_context_size_error"}}',
    ],
)
async def test_a_conversation_that_does_not_fit_overflows(said):
    with pytest.raises(ContextOverflowError):
        await served(httpx.Response(400, text=said)).model.chat([USER])


@pytest.mark.parametrize(
    "answer", [httpx.Response(200, text="<html>"), {"choices": []}, {}, httpx.Response(200, text="[]")]
)
async def test_an_answer_that_is_none_is_told(answer):
    with pytest.raises(InferenceError, match="the server's answer"):
        await served(answer).model.chat([USER])


async def test_a_cancelled_call_ends_its_request():
    started, ended = asyncio.Event(), asyncio.Event()

    async def answer(request):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    model = UpstreamModel(UpstreamSettings(base_url="http://served", model="m"), transport=httpx.MockTransport(answer))
    asking = asyncio.ensure_future(model.chat([USER]))
    await asyncio.wait_for(started.wait(), 10)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert ended.is_set()


def test_longer_conversations_count_more_tokens():
    model = served().model
    long = model.count([USER, ChatMessage(role="user", content="word " * 100)], [LOOK])
    assert model.context_length == 32768
    assert long - model.count([USER], [LOOK]) > 100
