"""Requests over HTTP: which API, whose session, and how its answer goes back; knows no policy."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias

from aiohttp import web

from tumbler.contracts.values import JSON, JSONObject
from tumbler_backends.gateway import delivery
from tumbler_backends.gateway.bodies import read_body
from tumbler_backends.gateway.failures import Refused, refusal
from tumbler_backends.gateway.flights import Sent
from tumbler_backends.gateway.session import CLOSED
from tumbler_backends.gateway.sessions import Sessions
from tumbler_backends.gateway.settings import GatewaySettings
from tumbler_backends.gateway.wire.format import WireFormat

__all__ = ["Front", "Handler", "json_response"]

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

_MESSAGES: Final = "/v1/messages"
_COUNT_TOKENS: Final = "/v1/messages/count_tokens"
_MODELS: Final = "/v1/models"


class Front:
    """Serves the APIs; `handle` takes every request."""

    def __init__(
        self,
        sessions: Sessions,
        formats: Sequence[WireFormat],
        settings: GatewaySettings,
        others: Mapping[str, Handler] | None = None,
    ) -> None:
        """Serve the sessions through these APIs; `others` takes requests below further paths."""
        self._sessions = sessions
        self._formats = {each.path: each for each in formats}
        self._default = formats[0]
        self._settings = settings
        self._others = dict(others or {})
        self._started = datetime.now(UTC)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        path = request.path
        wire = self._format(path)
        try:
            if path in self._formats:
                return await self._call(request, wire)
            if path == _COUNT_TOKENS and _MESSAGES in self._formats:
                return await self._count(request, wire)
            if path == _MODELS or path.startswith(_MODELS + "/"):
                return self._models(request)
            if path == "/healthz":
                return json_response({"status": "ok"})
            root = "/" + path.split("/", 2)[1]
            if root in self._others:
                return await self._others[root](request)
            raise Refused(404, "not_found_error", f"there is nothing at {path}; known: {', '.join(self._formats)}")
        except Refused as refused:
            return self._refuse(wire, refused)
        except ConnectionError:
            return web.Response(status=CLOSED)  # to nobody: the client is gone, which is no error of the server's
        except Exception as error:  # noqa: BLE001  # a defect is logged, and answered in the API's own words
            return self._refuse(wire, refusal(error, session=path))

    async def _call(self, request: web.Request, wire: WireFormat) -> web.StreamResponse:
        _require_method(request, "POST")
        headers = _headers(request)
        session = self._sessions.find(wire.secret(headers))
        try:
            raw = await _body(request, self._settings.read_seconds)
            body = read_body(raw, session.bodies)
            asked = wire.read(body, headers)
            flight = session.begin(wire, asked, body, Sent.of(wire.path, headers, raw))
        except Exception as error:
            refused = refusal(error, session=session.terms.name)
            session.note_refusal(wire, refused)
            raise refused from error
        if asked.stream:
            return await delivery.stream(request, wire, asked, session, flight, keep_alive=self._settings.keep_alive)
        return await delivery.whole(request, wire, asked, session, flight)

    async def _count(self, request: web.Request, wire: WireFormat) -> web.StreamResponse:
        _require_method(request, "POST")
        headers = _headers(request)
        session = self._sessions.find(wire.secret(headers))
        try:
            asked = wire.read(read_body(await _body(request, self._settings.read_seconds), session.bodies), headers)
            session.require_open()
            count = await session.terms.answerer.count(asked)
        except Exception as error:
            raise refusal(error, session=session.terms.name) from error
        return json_response({"input_tokens": count})

    def _models(self, request: web.Request) -> web.Response:
        _require_method(request, "GET", "HEAD")
        headers = _headers(request)
        secrets = (each.secret(headers) for each in self._formats.values())
        session = self._sessions.find(next((secret for secret in secrets if secret), None))
        name = request.path.removeprefix(_MODELS).strip("/")
        if name and name != self._settings.model:
            raise Refused(404, "not_found_error", f"there is no model {name!r}, but {self._settings.model!r}")
        model = self._model(session.terms.answerer.context_length)
        if name:
            return json_response(model)
        ends: JSONObject = {"first_id": self._settings.model, "last_id": self._settings.model, "has_more": False}
        return json_response({"object": "list", "data": [model], **ends})

    def _model(self, context_length: int) -> JSONObject:
        """Return the model as OpenAI's and Anthropic's APIs describe theirs, in one.

        They say nothing of its context; `max_model_len` is what vLLM adds to tell it, `context_length` OpenRouter.
        """
        name = self._settings.model
        since = self._started.replace(microsecond=0)
        return {
            "id": name,
            "object": "model",
            "created": int(since.timestamp()),
            "owned_by": "tumbler",
            "type": "model",
            "display_name": name,
            "created_at": since.isoformat().replace("+00:00", "Z"),
            "context_length": context_length,
            "max_model_len": context_length,
        }

    def _format(self, path: str) -> WireFormat:
        """Return whose errors fit the path."""
        known = _MESSAGES if path.startswith(_MESSAGES) else path
        return self._formats.get(known, self._default)

    def _refuse(self, wire: WireFormat, refused: Refused) -> web.Response:
        body = wire.error(refused.status, refused.kind, refused.message, refused.parameter)
        return json_response(body, status=refused.status, headers=refused.headers)


def json_response(value: JSON, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer of JSON."""
    body = json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


async def _body(request: web.Request, seconds: float) -> bytes:
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except TimeoutError as error:
        message = f"the body did not arrive within {seconds:g} s"
        raise Refused(408, "invalid_request_error", message, headers={"connection": "close"}) from error
    except web.HTTPRequestEntityTooLarge as error:
        raise Refused(413, "request_too_large", f"the body is too large: {error.text}") from error
    except web.RequestPayloadError as error:
        raise Refused(400, "invalid_request_error", f"the body cannot be read: {error}") from error


def _headers(request: web.Request) -> Mapping[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


def _require_method(request: web.Request, *methods: str) -> None:
    if request.method not in methods:
        allowed = ", ".join(methods)
        message = f"{request.path} takes {allowed}, not {request.method}"
        raise Refused(405, "invalid_request_error", message, headers={"allow": allowed})
