"""A real HTTP server that speaks OpenAI's chat completions, streaming too, and says what a script says."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

KEY = "sesame"
MODEL = "scripted"
CHARACTERS_A_TOKEN = 3

Answer = Mapping[str, Any]
"""`text`, `calls` (pairs of name and arguments), and `pause`: seconds between the words."""
Script = Callable[[Sequence[Mapping[str, Any]]], Answer]
"""From the request's messages to the answer."""


def text(said: str, *, pause: float = 0.0) -> Answer:
    """An answer in words."""
    return {"text": said, "pause": pause}


def calls(*named: tuple[str, Mapping[str, Any]], said: str = "") -> Answer:
    """An answer that makes calls."""
    return {"text": said, "calls": named}


class ChatServer:
    """Serves at `url` for as long as the context is open; `requests` are the bodies that came."""

    def __init__(self, script: Script, *, key: str | None = None) -> None:
        self.requests: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if key is not None and self.headers.get("authorization") != f"Bearer {key}":
                    self._json(401, {"error": {"message": "wrong key"}})
                elif self.path != "/v1/chat/completions" or body["model"] != MODEL:
                    self._json(404, {"error": {"message": f"no model {body['model']} at {self.path}"}})
                else:
                    outer.requests.append(body)
                    self._answer(body, script(body["messages"]))

            def _json(self, status: int, value: Mapping[str, Any]) -> None:
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def _answer(self, body: Mapping[str, Any], answer: Answer) -> None:
                called = [
                    {"id": f"call_{i}", "type": "function", "function": {"name": n, "arguments": json.dumps(a)}}
                    for i, (n, a) in enumerate(answer.get("calls", ()))
                ]
                finish = "tool_calls" if called else "stop"
                prompt = json.dumps([body["messages"], body.get("tools", [])])
                usage = {"prompt_tokens": len(prompt) // CHARACTERS_A_TOKEN, "completion_tokens": 7}
                if not body.get("stream"):
                    message = {"role": "assistant", "content": answer["text"], "tool_calls": called}
                    self._json(200, {"choices": [{"message": message, "finish_reason": finish}], "usage": usage})
                    return
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                words = answer["text"].split(" ") if answer["text"] else []
                for number, word in enumerate(words):
                    self._event({"choices": [{"delta": {"content": word if not number else f" {word}"}}]})
                    time.sleep(answer.get("pause", 0.0))
                delta = {"tool_calls": [{"index": i, **each} for i, each in enumerate(called)]}
                self._event({"choices": [{"delta": delta, "finish_reason": finish}]})
                self._event({"choices": [], "usage": usage})
                self._chunk(b"data: [DONE]\n\n")
                self._chunk(b"")

            def _event(self, value: Mapping[str, Any]) -> None:
                self._chunk(f"data: {json.dumps(value)}\n\n".encode())

            def _chunk(self, data: bytes) -> None:
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()

            def log_message(self, *_words: object) -> None:
                """Say nothing."""

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:
                    """The client has gone, as one that is interrupted does."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def last_user(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the person said last."""
    return next(str(each["content"]) for each in reversed(messages) if each["role"] == "user")


def answered(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The results of tools since the person spoke last."""
    results: list[str] = []
    for each in reversed(messages):
        if each["role"] == "user":
            break
        if each["role"] == "tool":
            results.insert(0, str(each["content"]))
    return results
