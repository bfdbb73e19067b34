"""What is sent, and a client that costs little: raw requests over connections that are kept."""

import asyncio
import itertools
import json
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

__all__ = ["BODIES", "PATHS", "load", "raw"]

NUMBER = "call 00000000"
"""What a body may hold to differ in each call: the number takes the place of the noughts."""

PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
_NUMBERS = itertools.count()
_TOOLS = [
    {"type": "function", "function": {"name": name, "description": "A tool. " * 20, "parameters": {"type": "object"}}}
    for name in ("shell", "read", "write", "edit", "search")
]


def _conversation(turns: int) -> list[dict[str, object]]:
    said: list[dict[str, object]] = [{"role": "user", "content": "Do the task. " * 10}]
    for turn in range(turns):
        function = {"name": "shell", "arguments": json.dumps({"command": f"cat file-{turn}"})}
        call = {"id": f"c{turn}", "type": "function", "function": function}
        said.append({"role": "assistant", "content": "I look at the next file.", "tool_calls": [call]})
        said.append({"role": "tool", "tool_call_id": f"c{turn}", "content": "a line of output\n" * 60})
    return said


def _chat(turns: int, **fields: object) -> dict[str, object]:
    return {"model": "policy", "messages": _conversation(turns), "tools": _TOOLS, **fields}


def _with_news(body: dict[str, object]) -> dict[str, object]:
    """Return a body whose conversation ends with a call and a result that no request before had."""
    news = json.dumps(_conversation(1)[1:]).replace("cat file-0", NUMBER)
    return {**body, "messages": [*_conversation(50), *json.loads(news)]}


BODIES: Mapping[str, tuple[str, dict[str, object]]] = {
    "chat, one message": ("chat", _chat(0)),
    "chat, 10 turns": ("chat", _chat(10)),
    "chat, 50 turns": ("chat", _chat(50)),
    "chat, 50 turns and a new one": ("chat", _with_news(_chat(50))),
    "chat, streamed": ("chat", _chat(0, stream=True)),
    "responses": ("responses", {"model": "policy", "input": "Do the task. " * 10}),
    "messages": ("messages", {"model": "policy", "max_tokens": 9, "messages": _conversation(0)}),
}
"""What a row is called → API and body."""


def raw(url: str, secret: str, api: str, body: dict[str, object]) -> bytes:
    """Return a request as bytes, with the headers that SDKs send."""
    content = json.dumps(body).encode()
    head = [
        f"POST {PATHS[api]} HTTP/1.1",
        f"Host: {urlsplit(url).netloc}",
        f"Authorization: Bearer {secret}",
        "Accept: application/json",
        "Content-Type: application/json",
        "User-Agent: benchmark",
        "X-Stainless-Lang: python",
        "X-Stainless-Retry-Count: 0",
        f"Content-Length: {len(content)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + content


async def load(url: str, request: bytes, *, connections: int, calls: int) -> tuple[list[float], float]:
    """Return the seconds of each call, and of all."""
    took: list[float] = []
    parts = urlsplit(url)

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for _ in range(calls // connections):
            numbered = _numbered(request, next(_NUMBERS))
            began = time.perf_counter()
            writer.write(numbered)
            await _answer(reader)
            took.append(time.perf_counter() - began)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(connections)))
    return took, time.perf_counter() - began


def _numbered(request: bytes, number: int) -> bytes:
    mark = NUMBER.encode()
    return request.replace(mark, b"call %08d" % number) if mark in request else request


async def _answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise RuntimeError(f"the server answered {head.decode()}")
    if b"transfer-encoding: chunked" in head:
        while (await reader.readuntil(b"\r\n")) != b"0\r\n":
            pass
        await reader.readuntil(b"\r\n")
        return
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))
