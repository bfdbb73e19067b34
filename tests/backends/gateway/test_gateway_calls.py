"""Calls over real sockets: who may make them, what reaches the policy, how they fail and end."""

import asyncio
import json
import stat

import httpx
import pytest
from tests.backends.gateway.conftest import CALL, TOOL, Bench, Policy, chat_body, running, until

from tumbler.contracts.gateway import ModelGateway
from tumbler.errors import ContextOverflowError, ContractError, EpisodeTimeoutError, InferenceError, RunError
from tumbler_backends.gateway.gateway import HttpGateway
from tumbler_backends.gateway.plugin import tumbler_backends
from tumbler_backends.gateway.settings import GatewaySettings


async def test_a_call_reaches_the_policy_as_text_and_comes_back_structured(bench):
    policy = Policy(lambda messages: f"I look.\n{CALL}")
    client = await bench.open(policy)
    message = await client.say({"role": "system", "content": "Be brief."}, "Go.", tools=[TOOL])
    assert message["content"] == "I look."
    (call,) = message["tool_calls"]
    assert call["function"]["name"] == "look"
    assert json.loads(call["function"]["arguments"]) == {"at": 1.0}
    (asked,) = policy.asked
    assert [each.role for each in asked.messages] == ["system", "user"]
    assert asked.messages[0].content.startswith("Be brief.")
    assert '"name": "look"' in asked.messages[0].content


async def test_usage_and_the_end_are_told(bench):
    client = await bench.open(Policy(lambda messages: "cut off", finish="length"))
    answer = (await client.chat("four")).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["prompt_tokens"] == 4
    assert answer["usage"]["completion_tokens"] == 7
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 7}


async def test_the_sampled_tokens_are_told_where_they_are_asked_for(bench):
    client = await bench.open(Policy())
    answer = (await client.chat("Hi", logprobs=True)).json()
    assert answer["prompt_token_ids"] == [1, 2]
    choice = answer["choices"][0]
    assert choice["token_ids"] == [ord(character) for character in "fine"]
    assert [(each["token"], each["logprob"]) for each in choice["logprobs"]["content"]] == [
        (character, -0.5) for character in "fine"
    ]
    assert "token_ids" not in (await client.chat("Hi")).json()["choices"][0]


async def test_the_plugin_offers_the_gateway():
    spec = next(each for each in tumbler_backends() if each.name == "gateway")
    assert (spec.name, spec.roles, spec.load(), spec.config()) == (
        "gateway",
        ("gateway",),
        HttpGateway,
        GatewaySettings,
    )


async def test_a_gateway_that_was_closed_can_be_started_again():
    gateway = HttpGateway(GatewaySettings())
    for _ in range(2):
        await gateway.start()
        bench = Bench(gateway)
        socket = (await bench.open(Policy())).endpoint.socket
        assert socket.exists()
        await bench.close()
        assert not socket.exists()


async def test_the_unix_socket_serves_the_same_and_is_private(bench):
    client = await bench.open(Policy())
    socket = client.endpoint.socket
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    other = bench.client(client.endpoint, socket=True)
    assert (await other.say("Hello"))["content"] == "fine"
    await bench.close()
    assert not socket.parent.exists()


async def test_a_gateway_can_do_without_a_unix_socket():
    async with running(unix_socket=False) as bench:
        client = await bench.open(Policy())
        assert client.endpoint.socket is None
        assert (await client.say("Hello"))["content"] == "fine"


async def test_it_keeps_the_contract():
    assert isinstance(HttpGateway(GatewaySettings()), ModelGateway)


async def test_nothing_opens_before_the_start_and_nothing_starts_twice(bench):
    with pytest.raises(ContractError, match="started already"):
        await bench.gateway.start()
    with pytest.raises(RunError, match="call `start` first"):
        HttpGateway(GatewaySettings()).admit("early", None)


async def test_a_taken_port_is_told(bench):
    endpoint = (await bench.open(Policy())).endpoint
    port = int(endpoint.url.rpartition(":")[2])
    gateway = HttpGateway(GatewaySettings(port=port))
    with pytest.raises(RunError, match=f"port {port}"):
        await gateway.start()


@pytest.mark.parametrize("secret", ["wrong", "ä", "x" * 5000])
async def test_another_secret_is_refused_in_the_apis_words(bench, secret):
    policy = Policy()
    client = await bench.open(policy)
    other = {"authorization": f"Bearer {secret}".encode()}
    response = await client.http.post("/v1/chat/completions", json=chat_body("Hi"), headers=other)
    assert response.status_code == 401
    assert response.json()["error"]["type"] == "authentication_error"
    assert policy.asked == []


async def test_a_call_without_a_secret_is_refused(bench):
    client = await bench.open(Policy())
    async with httpx.AsyncClient(base_url=client.endpoint.url, trust_env=False) as nobody:
        assert (await nobody.post("/v1/chat/completions", json=chat_body("Hi"))).status_code == 401
        assert (await nobody.get("/v1/models")).status_code == 401
        assert (await nobody.get("/healthz")).json() == {"status": "ok"}


async def test_a_session_that_is_over_says_so_and_is_not_tried_again(bench):
    client = await bench.open(Policy())
    await bench.gateway.end(client.endpoint)
    response = await client.chat("Hi")
    assert response.status_code == 410
    assert response.headers["x-should-retry"] == "false"


async def test_unknown_paths_and_methods_are_refused(bench):
    client = await bench.open(Policy())
    assert (await client.http.get("/")).status_code == 404
    assert (await client.http.post("/v1/completions", json={})).status_code == 404
    assert (await client.http.post("/v1/chat/completions/x", json={})).json()["error"]["type"] == "not_found_error"
    response = await client.http.get("/v1/chat/completions")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_clients_and_whoever_opens_a_session_learn_how_long_the_models_context_is(bench):
    short, long = [await bench.open(Policy(), context=context) for context in (512, 9000)]
    for client, length in ((short, 512), (long, 9000)):
        assert client.endpoint.context_length == length
        (model,) = (await client.http.get("/v1/models")).json()["data"]
        assert (model["context_length"], model["max_model_len"]) == (length, length)


async def test_models_are_listed_for_clients_of_either_api(bench):
    client = await bench.open(Policy())
    (model,) = (await client.http.get("/v1/models")).json()["data"]
    assert (model["id"], model["object"], model["type"]) == ("policy", "model", "model")
    assert (await client.http.get("/v1/models/policy")).json() == model
    assert (await client.http.get("/v1/models/other")).status_code == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"\xff", "not UTF-8"),
        (b'{"messages": NaN}', "NaN is not JSON"),
        (b'{"temperature": 1e999}', "too large"),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "deep"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deep"),
        (b'{"messages": []}', "messages"),
    ],
)
async def test_a_body_that_cannot_be_served_is_refused(bench, body, said):
    policy = Policy()
    client = await bench.open(policy)
    response = await client.http.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert said in response.json()["error"]["message"]
    assert policy.asked == []
    (call,) = await bench.gateway.end(client.endpoint)
    assert (call.api, call.status, call.chunk) == ("chat-completions", 400, None)


async def test_a_body_over_the_bound_is_refused_whether_its_length_is_told_or_not():
    async with running(body_bytes=2000) as bench:
        client = await bench.open(Policy())
        body = json.dumps(chat_body("x" * 5000)).encode()

        async def blocks():
            for start in range(0, len(body), 100):
                yield body[start : start + 100]

        assert (await client.http.post("/v1/chat/completions", content=body)).status_code == 413
        assert (await client.http.post("/v1/chat/completions", content=blocks())).status_code == 413
        assert (await client.chat("x")).status_code == 200


async def test_a_body_that_does_not_arrive_is_given_up():
    async with running(read_seconds=0.2) as bench:
        client = await bench.open(Policy())
        host, port = client.endpoint.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.endpoint.secret}\r\n"
        writer.write(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert answer.startswith(b"HTTP/1.1 408")
        writer.close()
        await writer.wait_closed()
        assert (await client.chat("Hi")).status_code == 200
        statuses = [call.status for call in await bench.gateway.end(client.endpoint)]
        assert statuses == [408, 200]


async def test_half_a_surrogate_pair_is_replaced(bench):
    policy = Policy()
    client = await bench.open(policy)
    body = b'{"model": "m", "messages": [{"role": "user", "content": "cut \\ud83d, whole \\ud83d\\ude00"}]}'
    assert (await client.http.post("/v1/chat/completions", content=body)).status_code == 200
    assert policy.asked[0].messages[0].content == "cut \ufffd, whole \U0001f600"


@pytest.mark.parametrize("words", ["SESSION_END", "data: [DONE]\n\n", "\r\n\r\nHTTP/1.1 200 OK", "\x00\x03", "\u2028"])
async def test_control_words_in_prompts_and_replies_change_nothing(bench, words):
    policy = Policy(lambda messages: messages[-1].content)
    client = await bench.open(policy)
    assert (await client.say(words))["content"] == words
    assert (await client.say("And on"))["content"] == "And on"


@pytest.mark.parametrize(("asked", "given"), [(None, 64), (10, 10), (1000, 64)])
async def test_the_reply_is_bounded_by_the_session_and_the_client(bench, asked, given):
    policy = Policy()
    client = await bench.open(policy, max_tokens=64)
    await client.say("Hi", **({} if asked is None else {"max_tokens": asked}))
    assert policy.asked[0].options["max_tokens"] == given


async def test_a_temperature_next_to_nothing_is_greedy_and_cannot_make_the_engine_fail(bench):
    policy = Policy()
    await (await bench.open(policy)).say("Hi", temperature=1e-300)
    assert [each.options["temperature"] for each in policy.asked] == [0.0]


async def test_a_temperature_is_passed_on_unless_the_settings_forbid_it(bench):
    policy = Policy()
    await (await bench.open(policy)).say("Hi", temperature=0.25)
    async with running(client_temperature=False) as strict:
        await (await strict.open(policy)).say("Hi", temperature=0.25)
    assert [each.options["temperature"] for each in policy.asked] == [0.25, None]


async def test_a_stop_sequence_cuts_the_reply(bench):
    client = await bench.open(Policy(lambda messages: "Thought.\nObservation: made up", finish="length"))
    answer = (await client.chat("Go", stop=["nothing", "\nObservation:"])).json()["choices"][0]
    assert (answer["message"]["content"], answer["finish_reason"]) == ("Thought.", "stop")


async def test_with_tool_choice_none_calls_are_words(bench):
    client = await bench.open(Policy(lambda messages: f"<think>\nhm\n</think>\n\nWell.\n{CALL}"))
    message = await client.say("Go", tools=[TOOL], tool_choice="none")
    assert message["content"] == f"Well.\n{CALL}"
    assert "tool_calls" not in message


async def test_a_call_that_cannot_be_carried_out_is_words_beside_those_that_can(bench):
    client = await bench.open(Policy(lambda messages: f"{CALL}\n<tool_call>\n{{oops\n</tool_call>"))
    message = await client.say("Go", tools=[TOOL])
    assert len(message["tool_calls"]) == 1
    assert "call not made" in message["content"]


@pytest.mark.parametrize(
    ("error", "status", "code", "again"),
    [
        (ContextOverflowError("9000 tokens"), 400, "context_length_exceeded", "false"),
        (InferenceError("down"), 503, None, None),
        (EpisodeTimeoutError("too late"), 410, "session_over", "false"),
        (ZeroDivisionError(), 500, None, "false"),
    ],
)
async def test_errors_of_the_policy_have_a_status_that_clients_understand(bench, caplog, error, status, code, again):
    client = await bench.open(Policy(lambda messages: error))
    for stream in (False, True):
        response = await client.chat("Hi", stream=stream)
        assert response.status_code == status
        assert response.json()["error"]["code"] == code
        assert response.headers.get("x-should-retry") == again
        assert ("retry-after" in response.headers) == (status == 503)
    assert ("a call of session episode failed" in caplog.text) == (status == 500)
    assert [call.status for call in await bench.gateway.end(client.endpoint)] == [status, status]


async def test_calls_beyond_the_bound_are_refused_for_good(bench):
    client = await bench.open(Policy(), calls=2)
    statuses = [(await client.chat("Hi")).status_code for _ in range(4)]
    assert statuses == [200, 200, 429, 429]
    assert (await client.chat("Hi")).headers["x-should-retry"] == "false"
    calls = await bench.gateway.end(client.endpoint)
    assert [call.chunk for call in calls] == [0, 1, None, None, None]


async def test_a_client_that_goes_away_cancels_its_call(bench):
    policy = Policy()
    policy.gate.clear()
    client = await bench.open(policy)
    for stream in (False, True):
        policy.entered.clear()
        asking = asyncio.ensure_future(client.chat("Hi", stream=stream))
        await asyncio.wait_for(policy.entered.wait(), 10)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: policy.cancelled == 2)
    calls = await bench.gateway.end(client.endpoint)
    assert [(call.status, call.chunk) for call in calls] == [(499, None), (499, None)]
    assert policy.replies == 0


async def test_the_end_of_a_session_cancels_and_answers_what_is_under_way(bench):
    policy = Policy()
    policy.gate.clear()
    client = await bench.open(policy)
    asking = asyncio.ensure_future(client.chat("Hi"))
    await asyncio.wait_for(policy.entered.wait(), 10)
    (call,) = await bench.gateway.end(client.endpoint)
    assert (call.status, call.chunk, policy.cancelled) == (499, None, 1)
    response = await asyncio.wait_for(asking, 10)
    assert (response.status_code, response.headers["x-should-retry"]) == (410, "false")
    assert await bench.gateway.end(client.endpoint) == ()


async def test_the_end_of_one_session_leaves_others_alone(bench):
    policy = Policy()
    policy.gate.clear()
    first, second = [await bench.open(policy, name=name) for name in ("first", "second")]
    asking = asyncio.ensure_future(second.say("Hi"))
    await asyncio.wait_for(policy.entered.wait(), 10)
    await bench.gateway.end(first.endpoint)
    policy.gate.set()
    assert (await asyncio.wait_for(asking, 10))["content"] == "fine"


async def test_closing_ends_all_sessions_with_calls_under_way():
    async with running(shutdown_seconds=1) as bench:
        policy = Policy()
        policy.gate.clear()
        client = await bench.open(policy)
        asking = asyncio.ensure_future(client.chat("Hi"))
        await asyncio.wait_for(policy.entered.wait(), 10)
        await bench.gateway.close()
        assert (await asyncio.wait_for(asking, 10)).status_code == 410
        assert policy.cancelled == 1


async def test_compressed_bodies_are_read_and_broken_ones_refused(bench):
    import gzip

    client = await bench.open(Policy())
    body = gzip.compress(json.dumps(chat_body("Hi")).encode())
    headers = {"content-encoding": "gzip"}
    assert (await client.http.post("/v1/chat/completions", content=body, headers=headers)).status_code == 200
    assert (await client.http.post("/v1/chat/completions", content=b"junk", headers=headers)).status_code == 400
