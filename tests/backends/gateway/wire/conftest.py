"""A server that answers one given reply through a wire format, for the SDKs to speak to."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from tumbler.contracts.chat import ChatMessage, ChatReply
from tumbler_backends.gateway.wire.chat_completions import ChatCompletions, ChatEvents
from tumbler_backends.gateway.wire.format import BadRequest, GatewayRequest, ReplyHead, WireFormat
from tumbler_backends.gateway.wire.messages import Messages
from tumbler_backends.gateway.wire.responses import Responses

FORMATS: tuple[WireFormat, ...] = (ChatCompletions(), Responses(), Messages())


@dataclass
class Desk:
    """What is answered, and what was asked."""

    url: str
    reply: ChatReply = field(default_factory=lambda: ChatReply(message=ChatMessage(role="assistant")))
    pieces: tuple[str, ...] = ()
    """Content that streams tell before the reply is whole."""
    failure: tuple[int, str, str] | None = None
    """Status, kind and message in place of the reply; within a stream it breaks off after the pieces."""
    requests: list[GatewayRequest] = field(default_factory=list)
    secrets: list[str | None] = field(default_factory=list)

    def answer(self, wire: WireFormat, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, str, bytes]:
        """Return status, content type and body."""
        self.secrets.append(wire.secret(headers))
        try:
            request = wire.read(body, headers)
        except BadRequest as error:
            refused = wire.error(400, "invalid_request_error", str(error), error.parameter)
            return 400, "application/json", json.dumps(refused).encode()
        self.requests.append(request)
        head = ReplyHead(id="id_1", model="policy", created=1700000000)
        if request.stream:
            return 200, "text/event-stream", self._stream(wire, request, head)
        if self.failure is not None:
            return self.failure[0], "application/json", json.dumps(wire.error(*self.failure)).encode()
        if isinstance(wire, ChatCompletions):
            return 200, "application/json", json.dumps(wire.write(self.reply, request, head)).encode()
        return 200, "application/json", json.dumps(wire.write(self.reply, request, head)).encode()

    def _stream(self, wire: WireFormat, request: GatewayRequest, head: ReplyHead) -> bytes:
        writer = wire.events(request, head)
        begun = writer.start() + b"".join(writer.text(piece) for piece in self.pieces)
        if self.failure is not None:
            return begun + writer.fail(*self.failure)
        if isinstance(writer, ChatEvents):
            return begun + writer.finish(self.reply)
        return begun + writer.finish(self.reply)


@pytest.fixture(scope="module")
def server() -> Iterator[Desk]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            wire = next(each for each in FORMATS if each.path == self.path.partition("?")[0])
            status, kind, answer = desk.answer(wire, body, headers)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    desk = Desk(url=f"http://127.0.0.1:{httpd.server_port}")
    thread = Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield desk
    httpd.shutdown()
    httpd.server_close()
    thread.join(10)


@pytest.fixture
def desk(server: Desk) -> Desk:
    """The server with nothing said."""
    fresh = Desk(url=server.url)
    vars(server).update(vars(fresh))
    return server
