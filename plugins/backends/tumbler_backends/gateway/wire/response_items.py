"""Answers of the Responses API and the items they are made of."""

from collections.abc import Mapping, Sequence

from tumbler.contracts.chat import ChatCall, ChatReply
from tumbler.contracts.values import JSON, JSONObject
from tumbler_backends.gateway.wire.format import GatewayRequest, ReplyHead
from tumbler_backends.gateway.wire.reasoning import seal_reasoning
from tumbler_backends.gateway.wire.replies import ending
from tumbler_backends.gateway.wire.response_requests import ResponsesRequest
from tumbler_backends.gateway.wire.response_tools import ClientTool, call_item, tool_items

__all__ = ["Items", "output_text", "response"]


class Items:
    """Makes the items of one answer."""

    def __init__(self, request: GatewayRequest, head: ReplyHead) -> None:
        """Keep what the items' ids and names are made of."""
        self._tools = _client_tools(request)
        self._id = head.id.removeprefix("resp_")

    def reasoning(self, thinking: str) -> dict[str, JSON]:
        """Return thoughts, in the clear, and sealed for clients that keep no others."""
        return {
            "type": "reasoning",
            "id": f"rs_{self._id}",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": thinking}] if thinking else [],
            "encrypted_content": seal_reasoning(thinking) if thinking else None,
            "status": "completed" if thinking else "in_progress",
        }

    def message(self, content: str | None, *, cut: bool = False) -> dict[str, JSON]:
        """Return what is said; None for a message that has only begun."""
        status = "in_progress" if content is None else "incomplete" if cut else "completed"
        parts: list[JSON] = [] if content is None else [output_text(content)]
        return {"type": "message", "id": f"msg_{self._id}", "role": "assistant", "status": status, "content": parts}

    def call(self, call: ChatCall, *, status: str = "completed") -> dict[str, JSON]:
        """Return a call."""
        return call_item(call, self._tools, status=status)


def output_text(text: str) -> JSONObject:
    """Return the one part that a message has."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def response(
    request: GatewayRequest,
    head: ReplyHead,
    *,
    output: Sequence[JSONObject] = (),
    reply: ChatReply | None = None,
    error: JSONObject | None = None,
) -> dict[str, JSON]:
    """Return the answer itself: with a reply it is over, with an error it has failed, with neither it has begun."""
    cut = reply is not None and ending(reply) == "length"
    status = "failed" if error else "in_progress" if reply is None else "incomplete" if cut else "completed"
    return {
        "id": head.id,
        "object": "response",
        "created_at": head.created,
        "status": status,
        "error": error,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": None,
        "max_output_tokens": request.max_tokens,
        "metadata": {},
        "model": head.model,
        "output": list(output),
        "parallel_tool_calls": True,
        "previous_response_id": request.previous,
        "temperature": request.temperature,
        "tool_choice": request.tool_choice,
        "tools": tool_items(request.tools, _client_tools(request)),
        "top_p": None,
        "usage": None if reply is None else _usage(reply),
    }


def _client_tools(request: GatewayRequest) -> Mapping[str, ClientTool]:
    return request.client_tools if isinstance(request, ResponsesRequest) else {}


def _usage(reply: ChatReply) -> JSONObject:
    usage = reply.usage
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt + usage.completion,
    }
