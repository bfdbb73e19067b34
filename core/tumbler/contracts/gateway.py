"""What a model gateway is: a local server of chat APIs that lets any program speak to a recorded policy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from tumbler.contracts.agent import EpisodeModel, NotingTools
from tumbler.contracts.inference import InferenceBackend, Sampling, TextTokenizer

__all__ = ["Endpoint", "GatewayCall", "GatewayService", "GatewaySession", "ModelGateway", "UpstreamServer"]


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
    context_length: int | None = None
    """The longest conversation and reply, in tokens; None where nobody knows it. /v1/models tells it, too."""


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


@dataclass(frozen=True, kw_only=True)
class UpstreamServer:
    """A model that another server offers, through OpenAI's chat completions."""

    url: str
    """Up to and with the version, such as http://127.0.0.1:8000/v1."""
    model: str
    """The model's name at that server."""
    api_key: str | None = None
    context_length: int = 32768
    """The longest conversation and reply, in tokens."""


@runtime_checkable
class GatewayService(Protocol):
    """Optional: a gateway that serves a model by itself, without a run, to agents that are started by hand."""

    async def serve(
        self,
        source: InferenceBackend | UpstreamServer,
        *,
        folder: Path,
        sessions: Sequence[str],
        sampling: Sampling,
        admin: str | None = None,
        on_ready: Callable[[Mapping[str, Endpoint]], None],
    ) -> None:
        """Serve until the task is cancelled or the process gets SIGTERM or SIGINT.

        Calls are written as they come, so that nothing of them is lost with the process; at the end all sessions are
        ended, and their files finished.

        Args:
            source: who answers; an inference backend that is started, and is left to the caller to close.
            folder: where the sessions are kept, in files of their names.
            sessions: the names of the sessions that are opened at once.
            sampling: how replies are sampled; of a served model's, `max_tokens` alone counts.
            admin: who sends it as a bearer token may open and end sessions at /sessions; None for nobody.
            on_ready: told where each of the sessions is reached, by name, once they are served.

        Raises:
            RunError: the address cannot be listened on, or a session's name or file cannot be used.
        """
        ...
