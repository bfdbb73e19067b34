"""Answers of the Responses API as events: each item is added, told in pieces, and done; all events are numbered."""

from tumbler.contracts.chat import ChatCall, ChatMessage, ChatReply
from tumbler.contracts.values import JSON, JSONObject
from tumbler_backends.gateway.wire.format import GatewayRequest, ReplyHead
from tumbler_backends.gateway.wire.replies import Streamed, ending, shown
from tumbler_backends.gateway.wire.response_items import Items, output_text, response
from tumbler_backends.gateway.wire.server_sent import event

__all__ = ["ResponsesEvents"]


class ResponsesEvents:
    """Writes one answer."""

    def __init__(self, request: GatewayRequest, head: ReplyHead) -> None:
        """Start before the first item."""
        self._request = request
        self._head = head
        self._items = Items(request, head)
        self._content = Streamed()
        self._message: str | None = None
        """The id of the message, once it has begun."""
        self._output: list[JSONObject] = []
        """The items that are done; the next one's index is their number."""
        self._events = 0

    def start(self) -> bytes:
        """Return the answer as it begins."""
        begun = response(self._request, self._head)
        return self._event("response.created", response=begun) + self._event("response.in_progress", response=begun)

    def text(self, piece: str) -> bytes:
        """Return the events of a piece of content."""
        opening = b""
        if self._message is None:
            item = self._items.message(None)
            self._message = str(item["id"])
            opening = self._added(item) + self._part("response.content_part.added", self._message, output_text(""))
        self._content.add(piece)
        return opening + self._in_part("response.output_text.delta", self._message, delta=piece, logprobs=[])

    def finish(self, reply: ChatReply) -> bytes:
        """Return the items that are left, and the end. Thinking comes first, unless content has."""
        message, cut = shown(reply.message), ending(reply) == "length"
        begun = self._message is not None
        events = [] if begun else self._thinking(message.thinking)
        events += self._said(message, cut=cut)
        events += self._thinking(message.thinking) if begun else []
        for call in message.calls:
            events += self._call(call)
        whole = response(self._request, self._head, output=self._output, reply=reply)
        events.append(self._event("response.incomplete" if cut else "response.completed", response=whole))
        return b"".join(events)

    def fail(self, status: int, kind: str, message: str) -> bytes:
        """Return the answer as it failed."""
        error: JSONObject = {"code": kind.removesuffix("_error"), "message": message}
        failed = response(self._request, self._head, output=self._output, error=error)
        return self._event("response.failed", response=failed)

    def _said(self, message: ChatMessage, *, cut: bool) -> list[bytes]:
        rest = self._content.rest(message.content)
        events = [self.text(rest)] if rest else []
        if self._message is None:
            return events
        content = self._content.sent
        return [
            *events,
            self._in_part("response.output_text.done", self._message, text=content, logprobs=[]),
            self._part("response.content_part.done", self._message, output_text(content)),
            self._done(self._items.message(content, cut=cut)),
        ]

    def _thinking(self, thinking: str) -> list[bytes]:
        if not thinking:
            return []
        item = self._items.reasoning(thinking)
        name = str(item["id"])
        part: dict[str, JSON] = {"type": "reasoning_text", "text": thinking}
        return [
            self._added(self._items.reasoning("")),
            self._part("response.content_part.added", name, {**part, "text": ""}),
            self._in_part("response.reasoning_text.delta", name, delta=thinking),
            self._in_part("response.reasoning_text.done", name, text=thinking),
            self._part("response.content_part.done", name, part),
            self._done(item),
        ]

    def _call(self, call: ChatCall) -> list[bytes]:
        item = self._items.call(call)
        custom = item["type"] == "custom_tool_call"
        field, kind = ("input", "custom_tool_call_input") if custom else ("arguments", "function_call_arguments")
        told, place = item[field], {"item_id": item["id"], "output_index": len(self._output)}
        named: JSONObject = {} if custom else {"name": item["name"]}
        return [
            self._added(item | {field: "", "status": "in_progress"}),
            self._event(f"response.{kind}.delta", **place, delta=told),
            self._event(f"response.{kind}.done", **place, **named, **{field: told}),
            self._done(item),
        ]

    def _added(self, item: JSONObject) -> bytes:
        return self._event("response.output_item.added", output_index=len(self._output), item=item)

    def _done(self, item: JSONObject) -> bytes:
        self._output.append(item)
        return self._event("response.output_item.done", output_index=len(self._output) - 1, item=item)

    def _part(self, kind: str, item_id: str, part: JSONObject) -> bytes:
        return self._in_part(kind, item_id, part=part)

    def _in_part(self, kind: str, item_id: str, **more: JSON) -> bytes:
        return self._event(kind, item_id=item_id, output_index=len(self._output), content_index=0, **more)

    def _event(self, kind: str, **more: JSON) -> bytes:
        self._events += 1
        return event({"type": kind, "sequence_number": self._events - 1, **more})
