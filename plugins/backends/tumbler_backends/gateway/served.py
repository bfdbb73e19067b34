"""A session that a served model answers; knows no API and no server."""

from dataclasses import replace

from tumbler.contracts.chat import ChatCall, ChatModel, ChatReply, OnText
from tumbler_backends.gateway.answering import Call
from tumbler_backends.gateway.wire.format import GatewayRequest

__all__ = ["ServedAnswerer"]


class ServedAnswerer:
    """Passes requests on to a `ChatModel`.

    With `tool_choice` "none" no tools are passed on; "required" is passed on as "auto", since a `ChatModel` knows no
    more. Ids of calls that the model gives twice, or not at all, are made unique in the session.
    """

    def __init__(self, model: ChatModel, *, max_tokens: int | None = None) -> None:
        """Answer with the model; a reply has `max_tokens` at most."""
        self._model = model
        self._max_tokens = max_tokens
        self._ids: set[str] = set()

    async def answer(self, call: Call, on_text: OnText) -> ChatReply:
        """Ask the model, and hear it as it speaks where the client wants to."""
        request = call.request
        bounds = [bound for bound in (request.max_tokens, self._max_tokens) if bound is not None]
        reply = await self._model.chat(
            request.messages,
            () if request.tool_choice == "none" else request.tools,
            max_tokens=min(bounds, default=None),
            temperature=request.temperature,
            stop=request.stop,
            on_text=on_text if request.stream else None,
        )
        calls = tuple(
            self._unique(each, f"call_{call.number}_{index}") for index, each in enumerate(reply.message.calls)
        )
        return replace(reply, message=replace(reply.message, calls=calls))

    @property
    def context_length(self) -> int:
        """Return the model's own."""
        return self._model.context_length

    async def count(self, request: GatewayRequest) -> int:
        """Return the model's own count."""
        return self._model.count(request.messages, request.tools)

    def _unique(self, call: ChatCall, fallback: str) -> ChatCall:
        identity = call.id if call.id and call.id not in self._ids else fallback
        self._ids.add(identity)
        return replace(call, id=identity)
