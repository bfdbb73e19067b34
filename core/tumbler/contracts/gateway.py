"""What a model gateway is: a local server of chat APIs that lets any program speak to a recorded policy."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from tumbler.contracts.agent import EpisodeModel, NotingTools
from tumbler.contracts.inference import TextTokenizer

__all__ = ["Endpoint", "GatewayCall", "GatewaySession", "ModelGateway"]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a session is reached. The secret tells sessions apart and is good for this one only."""

    url: str
    """On this machine, such as http://127.0.0.1:4000; the APIs lie at /v1/chat/completions, /v1/responses,
    /v1/messages and /v1/models."""
    secret: str
    """The bearer token, or API key."""
    socket: Path | None = None
    """A unix socket that serves the same, where the gateway has one."""
    model: str = "policy"
    """The model's name for the API; any other is served alike."""


@dataclass(frozen=True, kw_only=True)
class GatewaySession:
    """Who answers in one session, and with what."""

    name: str
    """The episode's id, for messages and logs."""
    model: EpisodeModel
    """The recorded policy."""
    tokenizer: TextTokenizer
    max_tokens: int
    """Tokens of one reply at most; a client may ask for fewer."""
    tools: NotingTools | None = None
    """Takes note of the calls that the policy made, and of what they brought."""
    calls: int | None = None
    """After so many calls the session refuses more; None for no bound."""


@dataclass(frozen=True, kw_only=True)
class GatewayCall:
    """One call that a session answered, or refused."""

    api: str
    status: int
    chunk: int | None = None
    """The chunk's index in the trajectory; None where nothing was sampled."""
    error: str = ""


@runtime_checkable
class ModelGateway(Protocol):
    """Serves sessions, any number at once, over one address."""

    async def start(self) -> None:
        """Listen, on loopback only."""
        ...

    async def open(self, session: GatewaySession) -> Endpoint:
        """Begin a session and return where it is reached."""
        ...

    async def end(self, endpoint: Endpoint) -> Sequence[GatewayCall]:
        """End a session: cancel what is in flight, forget the secret, and return its calls in order."""
        ...

    async def close(self) -> None:
        """End all sessions and stop listening."""
        ...
