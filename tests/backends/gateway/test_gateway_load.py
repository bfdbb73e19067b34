"""Many sessions and calls at once: nothing is lost, mixed up or made twice; and no body brings a 500."""

import asyncio
import json
import logging

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.backends.gateway.conftest import Policy, chat_body, running

from tumbler.contracts.gateway import GatewaySession
from tumbler.contracts.inference import Sampling
from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference
from tumbler.trajectory import verify_trajectory
from tumbler_backends.gateway.standalone.recorded import RecordedPolicy

PATHS = ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens")


async def test_64_sessions_of_50_calls_lose_mix_and_duplicate_nothing():
    async with running() as bench:
        policies = [Policy(lambda messages: f"echo of {messages[-1].content}") for _ in range(64)]
        clients = [await bench.open(policy, name=f"s{index}") for index, policy in enumerate(policies)]

        async def say(index: int, call: int) -> str:
            endpoint = clients[index].endpoint
            headers = {"authorization": f"Bearer {endpoint.secret}"}
            url = f"{endpoint.url}/v1/chat/completions"
            async with http.post(url, json=chat_body(f"{index}/{call}"), headers=headers) as response:
                return (await response.json())["choices"][0]["message"]["content"]

        async def session(index: int) -> list[str]:
            # Half of the calls go one after the other, and half side by side.
            first = [await say(index, call) for call in range(25)]
            return first + await asyncio.gather(*(say(index, call) for call in range(25, 50)))

        # A client that costs less than the server does, unlike the one of the other tests.
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256)) as http:
            answers = await asyncio.gather(*(session(index) for index in range(64)))
        for index, (said, policy, client) in enumerate(zip(answers, policies, clients, strict=True)):
            assert said == [f"echo of {index}/{call}" for call in range(50)]
            heard = sorted(asked.messages[-1].content for asked in policy.asked)
            assert heard == sorted(f"{index}/{call}" for call in range(50))
            calls = await bench.gateway.end(client.endpoint)
            assert sorted(call.chunk for call in calls) == list(range(50))
            assert {call.status for call in calls} == {200}


async def test_parallel_conversations_of_one_session_are_recorded_whole():
    async with running() as bench:
        inference = ScriptedInference(lambda prompt: f"{prompt.count('user')} of {prompt[5:8]}")
        policy = RecordedPolicy("episode", inference, Sampling(max_tokens=64), 0)
        endpoint = await bench.gateway.open(
            GatewaySession(name="episode", model=policy, tokenizer=CharacterTokenizer(), max_tokens=64)
        )
        client = bench.client(endpoint)

        async def conversation(number: int) -> None:
            said: list = [f"c{number:02}"]
            for turn in range(5):
                message = await client.say(*said)
                assert message["content"] == f"{turn + 1} of c{number:02}"
                said += [message, "go on"]

        await asyncio.gather(*(conversation(number) for number in range(12)))
        trajectory = policy.trajectory()
        verify_trajectory(trajectory)
        assert (len(trajectory.segments), len(trajectory.chunks)) == (12, 60)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["user", "assistant", "tool", "system", "text", "function", "auto", "\ud83d"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "type", "text", "id", "name", "tool_calls", "function", "arguments", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
FIELDS = (
    *("model", "messages", "input", "system", "instructions", "tools", "tool_choice", "temperature", "stop", "stream"),
    *("max_tokens", "max_completion_tokens", "max_output_tokens", "stop_sequences", "stream_options", "n", "logprobs"),
    *("previous_response_id", "thinking", "reasoning", "response_format", "text", "metadata"),
)
BODIES = st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=6)
CALLS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.text(max_size=3),
            "type": st.just("function"),
            "function": st.fixed_dictionaries(
                {}, optional={"name": st.text(max_size=4), "arguments": st.text(max_size=6) | JSON_VALUES}
            ),
        },
    ),
    max_size=2,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool", "system", "developer"])},
        optional={
            "content": st.text(max_size=6) | JSON_VALUES,
            "tool_calls": CALLS,
            "tool_call_id": st.text(max_size=3),
            "type": st.sampled_from(["message", "function_call", "reasoning", "function_call_output"]),
        },
    ),
    max_size=4,
)
NEAR = st.builds(
    lambda messages, rest: {**rest, "model": "m", "messages": messages, "input": messages}, MESSAGES, BODIES
)
VALID = st.builds(
    lambda texts, rest: {
        **rest,
        "model": "m",
        "max_tokens": 5,
        "messages": (said := [{"role": "user", "content": text} for text in texts]),
        "input": said,
    },
    st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=1),
)


@pytest.mark.parametrize("path", PATHS)
def test_no_json_brings_a_500(path, caplog):
    loop = asyncio.new_event_loop()
    context = running()
    bench = loop.run_until_complete(context.__aenter__())
    client = loop.run_until_complete(bench.open(Policy(lambda messages: f"<think>x</think>{messages[-1:]}")))

    statuses: set[int] = set()

    @settings(max_examples=150, suppress_health_check=list(HealthCheck))
    @given(body=BODIES | NEAR | VALID | JSON_VALUES)
    def try_body(body) -> None:
        content = json.dumps(body).encode()
        response = loop.run_until_complete(client.http.post(path, content=content))
        assert response.status_code in (200, 400), response.text
        statuses.add(response.status_code)
        if response.status_code == 400:
            assert response.json()["error"]["message"]

    try:
        with caplog.at_level(logging.ERROR, "tumbler.gateway"):
            try_body()
        assert not caplog.records
        assert statuses == {200, 400}
    finally:
        loop.run_until_complete(context.__aexit__(None, None, None))
        loop.close()


@settings(max_examples=60)
@given(content=st.binary(max_size=60))
def test_no_bytes_bring_a_500(content):
    async def post() -> int:
        async with running(unix_socket=False) as bench:
            client = await bench.open(Policy())
            return (await client.http.post("/v1/chat/completions", content=content)).status_code

    assert asyncio.run(post()) == 400


async def test_what_is_no_http_is_no_500(caplog):
    async with running() as bench:
        client = await bench.open(Policy())
        host, port = client.endpoint.url.removeprefix("http://").split(":")
        for junk in (
            b"\x00\x01\x02\r\n\r\n",
            b"GET\r\n\r\n",
            b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(junk)
            answer = await asyncio.wait_for(reader.read(), 10)
            assert answer.split(b" ")[1] == b"400"
            writer.close()
            await writer.wait_closed()
        assert (await client.chat("Hi")).status_code == 200
