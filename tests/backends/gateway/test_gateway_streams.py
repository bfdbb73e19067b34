"""Answers as events: what comes, when, and what happens when either side breaks off."""

import asyncio
import json

from tests.backends.gateway.conftest import CALL, TOOL, Policy, chat_body, running, until

from tumbler.contracts.chat import ChatMessage, ChatReply
from tumbler.errors import InferenceError
from tumbler_backends.gateway.served import ServedAnswerer


class SpeakingModel:
    """A `ChatModel` that says pieces, waits for its gate between them, and may fail at the end."""

    context_length = 4096

    def __init__(self, *pieces: str, failure: Exception | None = None) -> None:
        self.pieces = pieces
        self.failure = failure
        self.gate = asyncio.Event()
        self.cancelled = 0

    async def chat(self, messages, tools=(), *, on_text=None, **options) -> ChatReply:
        try:
            for piece in self.pieces:
                if on_text is not None:
                    await on_text(piece)
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        text = "".join(self.pieces)
        return ChatReply(message=ChatMessage(role="assistant", content=text), text=text)

    def count(self, messages, tools=()) -> int:
        return 42


def events(text: str) -> list[dict]:
    """Return the data of all events but the end, which must be there."""
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    return [json.loads(each) for each in data[:-1]]


def said(chunks: list[dict]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))


async def test_a_streamed_reply_is_the_whole_one(bench):
    client = await bench.open(Policy(lambda messages: f"I look.\n{CALL}"))
    response = await client.chat("Go", tools=[TOOL], stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    chunks = events(response.text)
    assert said(chunks) == "I look."
    calls = [call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", ())]
    assert calls[0]["function"]["name"] == "look"
    assert json.loads("".join(call["function"].get("arguments", "") for call in calls)) == {"at": 1.0}
    assert chunks[-1]["usage"]["completion_tokens"] == len(f"I look.\n{CALL}")


async def test_a_silent_stream_is_kept_alive(bench):
    policy = Policy()
    policy.gate.clear()
    client = await bench.open(policy)
    async with client.http.stream("POST", "/v1/chat/completions", json=chat_body("Hi", stream=True)) as response:
        lines = response.aiter_lines()
        comments = 0
        while comments < 3:
            comments += (await asyncio.wait_for(anext(lines), 10)).startswith(": keep-alive")
        policy.gate.set()
        rest = [line async for line in lines]
    assert said(events("\n".join(rest))) == "fine"


async def test_pieces_come_as_they_are_said(bench):
    model = SpeakingModel("one ", "two")
    client = bench.client(bench.gateway.admit("served", ServedAnswerer(model)))
    async with client.http.stream("POST", "/v1/chat/completions", json=chat_body("Hi", stream=True)) as response:
        lines = response.aiter_lines()
        while "one " not in (line := await asyncio.wait_for(anext(lines), 10)):
            assert "two" not in line
        model.gate.set()
        rest = [line async for line in lines]
    assert said(events("\n".join(rest))) == "two"


async def test_a_stream_that_fails_once_begun_ends_with_the_error(bench):
    model = SpeakingModel("one", failure=InferenceError("the engine died"))
    model.gate.set()
    client = bench.client(bench.gateway.admit("served", ServedAnswerer(model)))
    response = await client.chat("Hi", stream=True)
    assert response.status_code == 200
    (failure,) = [each for each in events(response.text) if "error" in each]
    assert "the engine died" in failure["error"]["message"]


async def test_the_end_of_a_session_ends_its_streams(bench):
    model = SpeakingModel("one", "two")
    client = bench.client(bench.gateway.admit("served", ServedAnswerer(model)))
    asking = asyncio.ensure_future(client.chat("Hi", stream=True))
    await until(lambda: model.gate._waiters)
    await bench.gateway.end(client.endpoint)
    chunks = events((await asyncio.wait_for(asking, 10)).text)
    assert chunks[-1]["error"]["code"] == "session_over"
    assert model.cancelled == 1


async def test_a_client_that_leaves_a_stream_cancels_the_call(bench):
    model = SpeakingModel("one", "two")
    client = bench.client(bench.gateway.admit("served", ServedAnswerer(model)))
    async with client.http.stream("POST", "/v1/chat/completions", json=chat_body("Hi", stream=True)) as response:
        await anext(response.aiter_bytes())
    await until(lambda: model.cancelled == 1)


async def test_a_quick_failure_has_a_status_though_a_stream_is_asked_for():
    async with running(keep_alive=60) as bench:
        client = await bench.open(Policy(lambda messages: InferenceError("down")))
        assert (await client.chat("Hi", stream=True)).status_code == 503
