"""What answers the calls of a session, whoever it is; knows no server."""

from dataclasses import dataclass
from typing import Protocol

from tumbler.contracts.chat import ChatReply, OnText
from tumbler.contracts.values import JSONObject
from tumbler_backends.gateway.wire.format import GatewayRequest

__all__ = ["Answerer", "Call"]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a session."""

    number: int
    """Counts the session's calls, from 0; in a replay, as they were counted when they were recorded."""
    api: str
    body: JSONObject
    """The request as the client sent it."""
    request: GatewayRequest


class Answerer(Protocol):
    """The policy, a served model, or a record."""

    async def answer(self, call: Call, on_text: OnText) -> ChatReply:
        """Return the reply; cancelled, it leaves nothing behind."""
        ...

    @property
    def context_length(self) -> int:
        """Return the longest conversation and reply, in tokens."""
        ...

    async def count(self, request: GatewayRequest) -> int:
        """Return how many tokens the request's conversation takes."""
        ...
