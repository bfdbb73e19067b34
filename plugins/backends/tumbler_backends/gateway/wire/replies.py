"""What every API's answer says of a reply: what a client sees of it, how it ended, which tokens it is made of."""

from dataclasses import replace
from typing import Literal

from tumbler.contracts.chat import ChatMessage, ChatReply

__all__ = ["Streamed", "ending", "shown"]


def shown(message: ChatMessage) -> ChatMessage:
    """Return what a client is told of a reply: a call that cannot be carried out as words, lest it be run."""
    broken = [f"[call not made: {call.problem}]" for call in message.calls if call.problem is not None]
    if not broken:
        return message
    content = "\n".join(([message.content] if message.content else []) + broken)
    return replace(message, content=content, calls=tuple(call for call in message.calls if call.problem is None))


def ending(reply: ChatReply) -> Literal["stop", "calls", "length"]:
    """Return how a client is told that a reply ended. One that the engine cut off is not whole, as at a limit."""
    if reply.stop in ("length", "abort"):
        return "length"
    return "calls" if shown(reply.message).calls else "stop"


class Streamed:
    """The content that a client has got in pieces."""

    def __init__(self) -> None:
        """Start with nothing sent."""
        self._pieces: list[str] = []

    def add(self, piece: str) -> None:
        """Note a piece that is sent."""
        self._pieces.append(piece)

    @property
    def sent(self) -> str:
        """Return all of it."""
        return "".join(self._pieces)

    def rest(self, content: str) -> str:
        """Return what of the content is still to be sent: nothing if the client has got other words already."""
        return content[len(self.sent) :] if content.startswith(self.sent) else ""
