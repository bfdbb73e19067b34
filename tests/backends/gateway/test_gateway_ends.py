"""Ends of sessions, gateways and clients: nothing is asked or kept after them that should not be."""

import asyncio
import json

import httpx
import pytest
from aiohttp import web
from tests.backends.gateway.conftest import Bench, Policy, chat_body, running, until

from tumbler.contracts.gateway import GatewaySession
from tumbler.dialects import dialect
from tumbler.testing.fakes import CharacterTokenizer
from tumbler_backends.gateway.apis import APIS
from tumbler_backends.gateway.failures import Refused
from tumbler_backends.gateway.gateway import HttpGateway
from tumbler_backends.gateway.policy import PolicyAnswerer
from tumbler_backends.gateway.session import LiveSession, Terms
from tumbler_backends.gateway.settings import GatewaySettings


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages/count_tokens"])
async def test_a_request_that_arrives_while_its_session_ends_asks_nothing(bench, path):
    policy = Policy()
    client = await bench.open(policy)
    body = json.dumps(chat_body("Hi")).encode()
    host, port = client.endpoint.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.endpoint.secret}\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
    # The server asks for the body when it has found the session.
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 100")
    writer.write(body[:5])
    (session,) = bench.gateway._sessions
    assert await bench.gateway.end(client.endpoint) == []
    writer.write(body[5:])
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 410")
    writer.close()
    await writer.wait_closed()
    assert (policy.begun, session.flights.active) == (0, set())


def test_a_session_keeps_the_last_refusals_alone_and_no_more_than_their_beginnings():
    answerer = PolicyAnswerer(
        GatewaySession(name="s", model=Policy(), tokenizer=CharacterTokenizer(), max_tokens=1),
        dialect("hermes"),
        client_temperature=True,
    )
    session = LiveSession(Terms(name="s", secret="x", answerer=answerer), GatewaySettings())
    for number in range(3000):
        session.note_refusal(APIS[0], Refused(400, "invalid_request_error", f"{number} {'x' * 5000}"))
    calls = session.calls
    assert [call.error.split()[0] for call in calls] == [str(number) for number in range(2000, 3000)]
    assert {len(call.error) for call in calls} == {1000}


async def test_closing_cancels_the_calls_of_all_sessions_at_once():
    async with running(shutdown_seconds=10) as bench:
        policy = Policy()
        policy.gate.clear()
        may_end = asyncio.Event()

        class Lingering(Policy):
            async def generate(self, messages, **options):
                try:
                    return await policy.generate(messages, **options)
                except asyncio.CancelledError:
                    await may_end.wait()
                    raise

        clients = [await bench.open(Lingering(), name=str(number)) for number in range(3)]
        asking = [asyncio.ensure_future(client.chat("Hi")) for client in clients]
        await until(lambda: policy.begun == 3)
        closing = asyncio.ensure_future(bench.gateway.close())
        await until(lambda: policy.cancelled == 3)
        may_end.set()
        await asyncio.wait_for(closing, 10)
        assert {(await each).status_code for each in asking} == {410}


async def test_a_client_that_is_gone_when_its_answer_is_written_is_no_error_of_the_server(caplog):
    bench = Bench(HttpGateway(GatewaySettings(unix_socket=False)))
    written = asyncio.Event()

    async def gone(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        request.transport.close()
        try:
            await response.write(b"nobody reads this")
        finally:
            written.set()
        return response

    bench.gateway.mount("/gone", gone)
    await bench.gateway.start()
    client = await bench.open(Policy())
    with pytest.raises(httpx.HTTPError):
        await client.http.get("/gone")
    await asyncio.wait_for(written.wait(), 10)
    assert (await client.chat("Hi")).status_code == 200
    await bench.close()
    assert not caplog.records
