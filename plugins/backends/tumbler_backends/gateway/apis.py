"""The APIs that the gateway serves; knows nothing of how they read and write."""

from typing import Final

from tumbler_backends.gateway.wire.chat_completions import ChatCompletions
from tumbler_backends.gateway.wire.format import WireFormat
from tumbler_backends.gateway.wire.messages import Messages
from tumbler_backends.gateway.wire.responses import Responses

__all__ = ["APIS"]

APIS: Final[tuple[WireFormat, ...]] = (ChatCompletions(), Responses(), Messages())
"""The first one's errors answer requests that are none's."""
