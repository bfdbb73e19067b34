"""The chat APIs as JSON and server-sent events: read, written, and nothing else."""

from tumbler_backends.gateway.wire.chat_completions import ChatCompletions
from tumbler_backends.gateway.wire.format import WireFormat
from tumbler_backends.gateway.wire.messages import Messages
from tumbler_backends.gateway.wire.responses import Responses

__all__ = ["FORMATS"]

FORMATS: tuple[WireFormat, ...] = (ChatCompletions(), Responses(), Messages())
"""Every API that is served."""
