"""A gateway on real sockets over a policy that is a function, and clients that speak to it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from tumbler.contracts.agent import Reply
from tumbler.contracts.gateway import Endpoint, GatewaySession
from tumbler.contracts.inference import FinishReason
from tumbler.contracts.values import Message
from tumbler.testing.fakes import CharacterTokenizer
from tumbler_backends.gateway.gateway import HttpGateway
from tumbler_backends.gateway.settings import GatewaySettings

TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks.",
        "parameters": {"type": "object", "properties": {"at": {"type": "number"}}},
    },
}
CALL = '<tool_call>\n{"name": "look", "arguments": {"at": 1.0}}\n</tool_call>'


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the policy was asked."""

    messages: tuple[Message, ...]
    options: dict


@dataclass
class Policy:
    """An episode's model that is a function from the conversation to text, and records what it is asked.

    It answers only while `gate` is set, and counts what was begun, cancelled and answered.
    """

    speak: Callable[[Sequence[Message]], str | Exception] = lambda messages: "fine"
    finish: FinishReason = "stop"
    asked: list[Asked] = field(default_factory=list)
    begun: int = 0
    cancelled: int = 0
    replies: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def generate(self, messages, **options) -> Reply:
        self.begun += 1
        self.asked.append(Asked(messages=tuple(messages), options=options))
        self.entered.set()
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        text = self.speak(messages)
        if isinstance(text, Exception):
            raise text
        self.replies += 1
        return Reply(
            text=text,
            finish_reason=self.finish,
            chunk=self.replies - 1,
            prompt_tokens=sum(len(message.content) for message in messages),
            tokens=len(text),
            cached_tokens=7,
            prompt_ids=(1, 2),
            token_ids=tuple(ord(character) for character in text),
            logprobs=(-0.5,) * len(text),
        )


class Client:
    """One session's client, over TCP or the unix socket."""

    def __init__(self, endpoint: Endpoint, http: httpx.AsyncClient) -> None:
        self.endpoint = endpoint
        self.http = http

    async def post(self, path: str, body, **headers) -> httpx.Response:
        return await self.http.post(path, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def chat(self, *messages, **fields) -> httpx.Response:
        """Send a conversation; a bare text is a user's message."""
        return await self.post("/v1/chat/completions", chat_body(*messages, **fields))

    async def say(self, *messages, **fields) -> dict:
        """Send a conversation and return the assistant's message."""
        response = await self.chat(*messages, **fields)
        assert response.status_code == 200, response.text
        return response.json()["choices"][0]["message"]


def chat_body(*messages, **fields) -> dict:
    """Return a request; a bare text is a user's message."""
    said = [{"role": "user", "content": each} if isinstance(each, str) else each for each in messages]
    return {"model": "policy", "messages": said, **fields}


class Bench:
    """A running gateway."""

    def __init__(self, gateway: HttpGateway) -> None:
        self.gateway = gateway
        self._clients: list[httpx.AsyncClient] = []

    async def open(self, policy: Policy, *, name="episode", max_tokens=64, calls=None, context=4096) -> Client:
        """Open a session that the policy answers and return its client."""
        session = GatewaySession(
            name=name, model=policy, tokenizer=CharacterTokenizer(context), max_tokens=max_tokens, calls=calls
        )
        return self.client(await self.gateway.open(session))

    def client(self, endpoint: Endpoint, *, secret: str | None = None, socket: bool = False) -> Client:
        """Return a client of an endpoint, with its secret unless another is given."""
        http = httpx.AsyncClient(
            base_url=endpoint.url,
            headers={"authorization": f"Bearer {secret or endpoint.secret}"},
            transport=httpx.AsyncHTTPTransport(uds=str(endpoint.socket)) if socket else None,
            trust_env=False,
            timeout=30,
        )
        self._clients.append(http)
        return Client(endpoint, http)

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()
        await self.gateway.close()


@asynccontextmanager
async def running(**settings) -> AsyncIterator[Bench]:
    """Start a gateway with settings."""
    bench = Bench(HttpGateway(GatewaySettings(**settings)))
    await bench.gateway.start()
    try:
        yield bench
    finally:
        await bench.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running(retry_grace=0.5, keep_alive=0.1) as started:
        yield started


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, for ten seconds at most."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
