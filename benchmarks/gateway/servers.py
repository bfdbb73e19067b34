"""The servers that are compared: the gateway over a model that does nothing, and bare servers that answer a constant.

Started as a process of its own, with the name of one of them; it prints its address and secret as JSON and serves
until its input ends.
"""

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

from tumbler.contracts.agent import Reply
from tumbler.contracts.gateway import GatewaySession
from tumbler.contracts.values import Message
from tumbler.testing.fakes import CharacterTokenizer

__all__ = ["SERVERS"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

ANSWER = json.dumps(
    {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": "policy",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop", "logprobs": None}
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }
).encode()


class NullModel:
    """Answers at once."""

    async def generate(self, messages: Sequence[Message], **options: object) -> Reply:
        """Say the same."""
        return Reply(text="fine", finish_reason="stop", chunk=0)


async def gateway(stack: AsyncExitStack) -> tuple[str, str]:
    """Start the gateway with one session."""
    from tumbler_backends.gateway.gateway import HttpGateway
    from tumbler_backends.gateway.settings import GatewaySettings

    started = HttpGateway(GatewaySettings(unix_socket=False))
    await started.start()
    stack.push_async_callback(started.close)
    session = GatewaySession(name="benchmark", model=NullModel(), tokenizer=CharacterTokenizer(), max_tokens=64)
    endpoint = await started.open(session)
    return endpoint.url, endpoint.secret


async def bare_aiohttp(stack: AsyncExitStack) -> tuple[str, str]:
    """Start aiohttp with a handler that parses the body."""
    from aiohttp import web

    async def handle(request: web.Request) -> web.Response:
        json.loads(await request.read())
        return web.Response(body=ANSWER, content_type="application/json")

    application = web.Application(client_max_size=1 << 25)
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}", ""


async def bare_uvicorn(stack: AsyncExitStack) -> tuple[str, str]:
    """Start uvicorn with an ASGI application that parses the body."""

    async def application(_: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        json.loads(body)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": ANSWER})

    return await _uvicorn(stack, application)


async def fastapi(stack: AsyncExitStack) -> tuple[str, str]:
    """Start FastAPI on uvicorn with a body that it validates."""
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Asked(BaseModel):
        model: str
        messages: list[dict[str, object]]

    application = FastAPI()
    answer = json.loads(ANSWER)

    async def handle(asked: Asked) -> dict[str, object]:
        return {**answer, "model": asked.model}

    application.post("/v1/chat/completions")(handle)
    return await _uvicorn(stack, application)


async def _uvicorn(stack: AsyncExitStack, application: Application) -> tuple[str, str]:
    import uvicorn

    # asyncio turns Nagle's algorithm off only where a socket says that it speaks TCP.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    config = uvicorn.Config(application, log_level="warning", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))

    async def stop() -> None:
        server.should_exit = True
        await serving

    stack.push_async_callback(stop)
    return f"http://127.0.0.1:{listener.getsockname()[1]}", ""


SERVERS: dict[str, Callable[[AsyncExitStack], Awaitable[tuple[str, str]]]] = {
    "gateway": gateway,
    "bare aiohttp": bare_aiohttp,
    "bare uvicorn": bare_uvicorn,
    "FastAPI": fastapi,
}


async def _serve(name: str) -> None:
    async with AsyncExitStack() as stack:
        url, secret = await SERVERS[name](stack)
        print(json.dumps({"url": url, "secret": secret}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
