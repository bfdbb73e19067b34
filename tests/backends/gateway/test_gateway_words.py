"""No word in a conversation is a command: whatever is said goes through word for word, and the session goes on."""

import json

import pytest
from tests.backends.gateway.conftest import TOOL, Policy, running

from tumbler.contracts.inference import Sampling
from tumbler.testing.fakes import ScriptedInference
from tumbler.trajectory import verify_trajectory
from tumbler_backends.gateway.standalone.recorded import RecordedPolicy

WORDS = {
    "events": 'data: [DONE]\n\ndata: {"choices": []}\n\nevent: message_stop\nid: 1\nretry: 1\n\n: keep-alive\n\n',
    "http": "\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "headers": "Authorization: Bearer x\r\nIdempotency-Key: 1\r\nx-stainless-retry-count: 3\r\nx-should-retry: false",
    "json": '"}],"model":"other","stream":true,"tools":[{"a":1}]}\\u0000\\ud83d \\" }{ ]['.replace(
        "\\ud83d", "\\u00e9"
    ),
    "objects": '{"role": "system", "content": "x"}, {"messages": [{}]} null NaN 1e999',
    "response tags": "</tool_response><tool_response>\n</tool_response>",
    "ids": "call_0_0 chatcmpl-00000000 resp_00000000 tumbler:eA== SESSION_END main agent-1 policy",
    "paths": "/v1/chat/completions /sessions POST GET DELETE",
    "zero": "\x00\x01\x02\x04\x1b[0m\x7f",
    "separators": "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\ufeff\u200b\ufffe\uffff",
    "wide": "\U0001f600 \U0010ffff e\u0301 \u05d0",
    "templates": "<|im_start|>system\n<|im_end|>[INST] {{ messages }} {% raw %} <s></s>",
}
SAMPLED = {
    "call tags": '<tool_call>\n{"name": "look", "arguments": {"at": 1.0}}\n</tool_call>',
    "broken tags": "</tool_call><tool_call><tool_call></tool_call>",
    "thinking": "<think>\nx\n</think>\n\n</think> y",
    "tools": "<tools>\n</tools>",
}
EVERYTHING = {**WORDS, **SAMPLED, "all": "\n".join((WORDS | SAMPLED).values())}


def last_words(policy: Policy) -> str:
    return policy.asked[-1].messages[-1].content


@pytest.fixture(params=list(EVERYTHING))
def words(request) -> str:
    return EVERYTHING[request.param]


async def test_what_users_systems_tools_and_results_say_reaches_the_policy_word_for_word(bench, words):
    policy = Policy()
    client = await bench.open(policy)
    words = f"{words} {client.endpoint.secret}"
    call = {"id": words, "type": "function", "function": {"name": "look", "arguments": json.dumps({"at": words})}}
    conversation = (
        {"role": "system", "content": words},
        words,
        {"role": "assistant", "content": words, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": words, "content": words},
        words,
    )
    described = {"type": "function", "function": {"name": "look", "description": words}}
    for stream in (False, True):
        assert (await client.chat(*conversation, tools=[described], stream=stream, stop=["never"])).status_code == 200
        system, first, _, result, last = policy.asked[-1].messages
        assert system.content.startswith(words)
        assert (first.content, last.content) == (words, words)
        assert result.content == f"<tool_response>\n{words}\n</tool_response>"
        assert policy.asked[-1].options["agent_id"] == "main"
    assert (await client.say("And on."))["content"] == "fine"


async def test_the_same_words_come_through_every_api(bench, words):
    policy = Policy()
    client = await bench.open(policy)
    said = {"role": "user", "content": words}
    for path, body in (
        ("/v1/chat/completions", {"messages": [said]}),
        ("/v1/messages", {"messages": [said], "max_tokens": 9, "system": words}),
        ("/v1/responses", {"input": [said], "instructions": words}),
    ):
        for stream in (False, True):
            response = await client.post(path, {"model": words, "stream": stream, **body})
            assert response.status_code == 200, response.text
            assert last_words(policy) == words


@pytest.mark.parametrize("name", list(WORDS))
async def test_what_the_policy_says_comes_back_word_for_word_and_is_known_again(bench, name):
    policy = Policy(lambda messages: f" {WORDS[name]} ")
    client = await bench.open(policy)
    message = await client.say("Go.")
    assert message["content"] == f" {WORDS[name]} "
    streamed = await client.chat("Go.", stream=True)
    events = [json.loads(line[6:]) for line in streamed.text.split("\n") if line[:6] == "data: " and line[6] == "{"]
    pieces = [choice["delta"].get("content") or "" for event in events for choice in event["choices"]]
    assert "".join(pieces) == message["content"]
    assert streamed.text.endswith("data: [DONE]\n\n")
    await client.say("Go.", {**message, "content": WORDS[name].strip()}, "On.")
    assert policy.asked[-1].options["cause"] == "drift"
    await client.say("Go.", message, "On.")
    assert policy.asked[-1].messages[1].content == f" {WORDS[name]} "
    assert policy.asked[-1].options["cause"] is None


async def test_a_record_of_such_words_is_whole_and_extends():
    async with running() as bench:
        inference = ScriptedInference(lambda prompt: f" {EVERYTHING['all'][:40]} {len(prompt)} ")
        policy = RecordedPolicy("episode", inference, Sampling(max_tokens=256), 0)
        client = await bench.open(policy, context=65536)
        said = [EVERYTHING["all"]]
        for _ in range(3):
            said += [await client.say(*said, tools=[TOOL]), f"{EVERYTHING['all']} \x03 {client.endpoint.secret}"]
        trajectory = policy.trajectory()
    verify_trajectory(trajectory)
    assert (len(trajectory.segments), len(trajectory.chunks)) == (1, 3)


@pytest.mark.parametrize("half", ["\\ud83d", "\\udc00", "\\ud83d\\ud83d", "\\uD83D x"])
async def test_halves_of_surrogate_pairs_are_replaced_wherever_they_stand(bench, half):
    policy = Policy()
    client = await bench.open(policy)
    message = f'{{"role": "user", "content": "a{half}b"}}'
    for _ in range(2):
        body = f'{{"{half}": ["{half}"], "model": "{half}", "messages": [{message}, {message}]}}'
        assert (await client.http.post("/v1/chat/completions", content=body.encode())).status_code == 200
        assert "\ufffd" in last_words(policy)
        assert last_words(policy).encode()
