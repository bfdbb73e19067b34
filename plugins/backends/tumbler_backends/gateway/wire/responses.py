"""OpenAI's Responses API, `/v1/responses`: what Codex and OpenAI's agents speak."""

from collections.abc import Mapping

from tumbler.contracts.chat import ChatReply
from tumbler.contracts.values import JSONObject
from tumbler_backends.gateway.wire.format import GatewayRequest, ReplyHead
from tumbler_backends.gateway.wire.openai_errors import openai_error
from tumbler_backends.gateway.wire.replies import ending, shown
from tumbler_backends.gateway.wire.response_events import ResponsesEvents
from tumbler_backends.gateway.wire.response_items import Items, response
from tumbler_backends.gateway.wire.response_requests import read_responses_request
from tumbler_backends.gateway.wire.server_sent import bearer

__all__ = ["Responses"]


class Responses:
    """The Responses API."""

    @property
    def name(self) -> str:
        """Return `responses`."""
        return "responses"

    @property
    def path(self) -> str:
        """Return where requests are sent."""
        return "/v1/responses"

    def read(self, body: JSONObject, headers: Mapping[str, str]) -> GatewayRequest:
        """Return what a request asks for: a `ResponsesRequest`, which keeps what the client calls its tools."""
        return read_responses_request(body)

    def secret(self, headers: Mapping[str, str]) -> str | None:
        """Return the bearer token."""
        return bearer(headers)

    def write(self, reply: ChatReply, request: GatewayRequest, head: ReplyHead) -> JSONObject:
        """Return the answer."""
        message, items, length = shown(reply.message), Items(request, head), ending(reply) == "length"
        output = [items.reasoning(message.thinking)] if message.thinking else []
        output += [items.message(message.content, cut=length)] if message.content else []
        output += [items.call(call) for call in message.calls]
        return response(request, head, output=output, reply=reply)

    def events(self, request: GatewayRequest, head: ReplyHead) -> ResponsesEvents:
        """Return what writes the answer as events."""
        return ResponsesEvents(request, head)

    def error(self, status: int, kind: str, message: str, parameter: str | None = None) -> JSONObject:
        """Return an error body."""
        return openai_error(status, kind, message, parameter)
