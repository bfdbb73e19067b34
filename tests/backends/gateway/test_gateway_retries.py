"""Retries join the call that they try again: told by header, and never by body alone."""

import asyncio

import pytest
from tests.backends.gateway.conftest import Policy, running, until

from tumbler.errors import InferenceError
from tumbler_backends.gateway.flights import Flight, Flights, Sent
from tumbler_backends.gateway.wire.format import ReplyHead


def counting() -> Policy:
    """Return a policy that never says the same twice."""
    policy = Policy()
    policy.speak = lambda messages: f"reply {policy.replies}"
    return policy


async def leave(client, policy, **headers) -> None:
    """Send a request and go away before there is an answer."""
    policy.entered.clear()
    asking = asyncio.ensure_future(client.post("/v1/chat/completions", BODY, **headers))
    await asyncio.wait_for(policy.entered.wait(), 10)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


BODY = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}]}


def content(response) -> str:
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


async def test_equal_requests_without_headers_are_calls_of_their_own(bench):
    policy = counting()
    client = await bench.open(policy)
    answers = await asyncio.gather(*(client.post("/v1/chat/completions", BODY) for _ in range(5)))
    assert len({content(each) for each in answers}) == 5
    assert len({each.json()["id"] for each in answers}) == 5


async def test_a_key_joins_the_call_under_way_and_the_finished_one(bench):
    policy = counting()
    policy.gate.clear()
    client = await bench.open(policy)
    asking = [asyncio.ensure_future(client.post("/v1/chat/completions", BODY, idempotency_key="k")) for _ in range(3)]
    await asyncio.wait_for(policy.entered.wait(), 10)
    policy.gate.set()
    answers = await asyncio.gather(*asking)
    answers.append(await client.post("/v1/chat/completions", BODY, idempotency_key="k"))
    assert {content(each) for each in answers} == {"reply 0"}
    assert policy.begun == 1
    assert len(await bench.gateway.end(client.endpoint)) == 1


async def test_other_keys_and_other_sessions_are_other_calls(bench):
    policy = counting()
    one, two = [await bench.open(policy, name=name) for name in ("one", "two")]
    answers = [
        content(await client.post("/v1/chat/completions", BODY, idempotency_key=key))
        for client, key in ((one, "a"), (one, "b"), (two, "a"))
    ]
    assert answers == ["reply 0", "reply 1", "reply 2"]


async def test_a_key_with_another_request_is_refused(bench):
    client = await bench.open(counting())
    await client.post("/v1/chat/completions", BODY, idempotency_key="k")
    response = await client.post("/v1/chat/completions", {**BODY, "max_tokens": 3}, idempotency_key="k")
    assert response.status_code == 422
    assert "Idempotency-Key" in response.json()["error"]["message"]


async def test_a_call_that_failed_is_tried_anew_under_its_key(bench):
    policy = Policy(lambda messages: InferenceError("down"))
    client = await bench.open(policy)
    assert (await client.post("/v1/chat/completions", BODY, idempotency_key="k")).status_code == 503
    policy.speak = lambda messages: "up"
    assert content(await client.post("/v1/chat/completions", BODY, idempotency_key="k")) == "up"


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ({"idempotency_key": "k"}, {"idempotency_key": "k"}),
        ({"x_stainless_retry_count": "0"}, {"x_stainless_retry_count": "1"}),
    ],
)
async def test_a_retry_joins_the_call_that_its_client_left(first, again):
    async with running(retry_grace=60) as bench:
        policy = counting()
        policy.gate.clear()
        client = await bench.open(policy)
        await leave(client, policy, **first)
        retry = asyncio.ensure_future(client.post("/v1/chat/completions", BODY, **again))
        policy.gate.set()
        assert content(await retry) == "reply 0"
        assert (policy.begun, policy.cancelled) == (1, 0)


async def test_a_retry_gets_the_answer_that_was_finished_while_nobody_waited():
    async with running(retry_grace=60) as bench:
        policy = counting()
        policy.gate.clear()
        client = await bench.open(policy)
        for _ in range(2):
            await leave(client, policy, x_stainless_retry_count="0")
        policy.gate.set()
        await until(lambda: policy.replies == 2)
        retries = [await client.post("/v1/chat/completions", BODY, x_stainless_retry_count="1") for _ in range(3)]
        assert sorted(content(each) for each in retries) == ["reply 0", "reply 1", "reply 2"]
        assert policy.begun == 3


async def test_a_retry_of_another_request_joins_nothing():
    async with running(retry_grace=60) as bench:
        policy = counting()
        policy.gate.clear()
        client = await bench.open(policy)
        await leave(client, policy, x_stainless_retry_count="0")
        policy.gate.set()
        other = {**BODY, "max_tokens": 3}
        assert content(await client.post("/v1/chat/completions", other, x_stainless_retry_count="1")) == "reply 1"


async def test_a_first_try_joins_nothing():
    async with running(retry_grace=60) as bench:
        policy = counting()
        policy.gate.clear()
        client = await bench.open(policy)
        await leave(client, policy, x_stainless_retry_count="0")
        policy.gate.set()
        assert content(await client.post("/v1/chat/completions", BODY, x_stainless_retry_count="0")) == "reply 1"


async def test_an_answer_that_arrived_is_given_to_no_retry(bench):
    client = await bench.open(counting())
    assert content(await client.post("/v1/chat/completions", BODY, x_stainless_retry_count="0")) == "reply 0"
    assert content(await client.post("/v1/chat/completions", BODY, x_stainless_retry_count="1")) == "reply 1"


async def test_a_call_whose_client_does_not_come_back_is_cancelled():
    async with running(retry_grace=0.1) as bench:
        policy = counting()
        policy.gate.clear()
        client = await bench.open(policy)
        await leave(client, policy, idempotency_key="k")
        await until(lambda: policy.cancelled == 1)
        policy.gate.set()
        assert content(await client.post("/v1/chat/completions", BODY, idempotency_key="k")) == "reply 0"


async def test_without_grace_a_call_is_cancelled_at_once():
    async with running(retry_grace=0) as bench:
        policy = counting()
        policy.gate.clear()
        client = await bench.open(policy)
        await leave(client, policy, idempotency_key="k")
        await until(lambda: policy.cancelled == 1)


async def test_one_of_two_clients_that_leaves_does_not_cancel_the_other(bench):
    policy = counting()
    policy.gate.clear()
    client = await bench.open(policy)
    staying = asyncio.ensure_future(client.post("/v1/chat/completions", BODY, idempotency_key="k"))
    await asyncio.wait_for(policy.entered.wait(), 10)
    leaving = asyncio.ensure_future(client.post("/v1/chat/completions", BODY, idempotency_key="k"))
    (session,) = bench.gateway._sessions
    await until(lambda: any(flight.waiting == 2 for flight in session.flights.active))
    leaving.cancel()
    await until(lambda: all(flight.waiting == 1 for flight in session.flights.active))
    policy.gate.set()
    assert content(await asyncio.wait_for(staying, 10)) == "reply 0"
    assert policy.cancelled == 0


async def test_a_retry_may_ask_for_a_stream_of_what_was_said_whole(bench):
    client = await bench.open(counting())
    streamed = {**BODY, "stream": True}
    first = await client.post("/v1/chat/completions", streamed, idempotency_key="k")
    again = await client.post("/v1/chat/completions", streamed, idempotency_key="k")
    assert first.text == again.text
    assert "reply 0" in first.text


@pytest.mark.parametrize("count", ["", "-1", "x", "9" * 400, "²"])
async def test_a_senseless_count_is_no_retry(bench, count):
    client = await bench.open(counting())
    headers = {"x-stainless-retry-count": count.encode()}
    response = await client.http.post("/v1/chat/completions", json=BODY, headers=headers)
    assert content(response) == "reply 0"


class Lingering(Policy):
    """A policy that takes until `end` to be cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.end = asyncio.Event()
        self.told = asyncio.Event()

    async def generate(self, messages, **options):
        try:
            return await super().generate(messages, **options)
        except asyncio.CancelledError:
            self.told.set()
            await self.end.wait()
            raise


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ({"idempotency_key": "k"}, {"idempotency_key": "k"}),
        ({"x_stainless_retry_count": "0"}, {"x_stainless_retry_count": "1"}),
    ],
)
async def test_a_retry_of_a_call_that_is_just_being_cancelled_is_a_call_of_its_own(first, again):
    async with running(retry_grace=0.05) as bench:
        policy = Lingering()
        policy.gate.clear()
        client = await bench.open(policy)
        await leave(client, policy, **first)
        await asyncio.wait_for(policy.told.wait(), 10)
        policy.gate.set()
        response = await client.post("/v1/chat/completions", BODY, **again)
        policy.end.set()
        assert content(response) == "fine"
        assert policy.begun == 2


async def test_a_client_that_comes_back_gets_the_whole_grace_when_it_leaves_again():
    flights = Flights(grace=60, remembered=4)
    sent = Sent(path="/", digest=b"", key="k")
    flight = Flight(sent, ReplyHead(id="", model="", created=0))
    flight.start(lambda on_text: asyncio.Event().wait())
    flights.add(flight)
    flights.leave(flight, delivered=False, resumable=True)
    first = flight.grace
    assert flights.join(sent) is flight
    assert first.cancelled()
    flights.leave(flight, delivered=False, resumable=True)
    second = flight.grace
    assert not second.cancelled()
    await flights.cancel(10)
    assert second.cancelled()
