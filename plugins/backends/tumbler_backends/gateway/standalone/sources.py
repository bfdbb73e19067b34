"""Who answers the sessions of a gateway of its own, and what is kept of them; knows no server."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr, ValidationError

from tumbler.contracts.chat import ChatModel, Dialect
from tumbler.contracts.gateway import GatewaySession, UpstreamServer
from tumbler.contracts.inference import InferenceBackend, Sampling
from tumbler.errors import RunError
from tumbler.seeding import derive_seed
from tumbler.trajectory import trajectory_to_json
from tumbler_backends.gateway.answering import Answerer
from tumbler_backends.gateway.policy import PolicyAnswerer
from tumbler_backends.gateway.served import ServedAnswerer
from tumbler_backends.gateway.standalone.recorded import RecordedPolicy
from tumbler_backends.gateway.upstream.model import UpstreamModel
from tumbler_backends.gateway.upstream.settings import UpstreamSettings

__all__ = ["KeptSession", "PolicySessions", "ServedSessions", "SessionSource", "session_source"]


class KeptSession(Protocol):
    """One session and what is kept of it besides its calls."""

    @property
    def answerer(self) -> Answerer:
        """Return who answers."""
        ...

    async def keep(self) -> None:
        """Write it down, when the session is over."""
        ...


class SessionSource(Protocol):
    """Opens sessions."""

    def open(self, name: str, file: Path) -> KeptSession:
        """Begin a session that is kept in `file`."""
        ...


@asynccontextmanager
async def session_source(
    source: InferenceBackend | UpstreamServer, dialect: Dialect, sampling: Sampling, *, client_temperature: bool
) -> AsyncIterator[SessionSource]:
    """Yield sessions that a model answers; raises `RunError` where a server's address or name cannot be one."""
    if not isinstance(source, UpstreamServer):
        yield PolicySessions(source, dialect, sampling, client_temperature=client_temperature)
        return
    model = UpstreamModel(_settings(source))
    try:
        yield ServedSessions(model, max_tokens=sampling.max_tokens)
    finally:
        await model.close()


class PolicySessions:
    """Sessions that a policy answers; each file holds the trajectory, on one line."""

    def __init__(
        self,
        inference: InferenceBackend,
        dialect: Dialect,
        sampling: Sampling,
        *,
        client_temperature: bool = True,
    ) -> None:
        """Sample from a backend that is started."""
        self._inference = inference
        self._dialect = dialect
        self._sampling = sampling
        self._client_temperature = client_temperature

    def open(self, name: str, file: Path) -> "_PolicySession":
        """Begin a session; its seed is made of its name, so that no two sessions say the same."""
        policy = RecordedPolicy(name, self._inference, self._sampling, derive_seed("session", name))
        session = GatewaySession(
            name=name,
            model=policy,
            tokenizer=self._inference.tokenizer,
            max_tokens=self._sampling.max_tokens,
            tools=policy,
        )
        # The calls are to hold all that the trajectory is made of.
        answerer = PolicyAnswerer(session, self._dialect, client_temperature=self._client_temperature, tell_tokens=True)
        return _PolicySession(policy, answerer, file)


class _PolicySession:
    def __init__(self, policy: RecordedPolicy, answerer: PolicyAnswerer, file: Path) -> None:
        self._policy = policy
        self._answerer = answerer
        self._file = file

    @property
    def answerer(self) -> Answerer:
        """Return the policy."""
        return self._answerer

    async def keep(self) -> None:
        """Write the trajectory."""
        line = json.dumps(trajectory_to_json(self._policy.trajectory()))
        partial = self._file.with_name(f".{self._file.name}.partial")
        partial.write_text(line + "\n", encoding="utf-8")
        partial.replace(self._file)
        await self._policy.release()


class ServedSessions:
    """Sessions that a served model answers; there is nothing to keep besides the calls."""

    def __init__(self, model: ChatModel, *, max_tokens: int | None = None) -> None:
        """Ask `model`; a reply has `max_tokens` at most."""
        self._model = model
        self._max_tokens = max_tokens

    def open(self, name: str, file: Path) -> "_ServedSession":
        """Begin a session."""
        return _ServedSession(ServedAnswerer(self._model, max_tokens=self._max_tokens))


class _ServedSession:
    def __init__(self, answerer: ServedAnswerer) -> None:
        self._answerer = answerer

    @property
    def answerer(self) -> Answerer:
        """Return the model."""
        return self._answerer

    async def keep(self) -> None:
        """Keep nothing more."""


def _settings(server: UpstreamServer) -> UpstreamSettings:
    try:
        return UpstreamSettings(
            base_url=server.url,
            model=server.model,
            api_key=None if server.api_key is None else SecretStr(server.api_key),
            context_length=server.context_length,
        )
    except ValidationError as error:
        problems = "; ".join(f"{each['loc'][0]}: {each['msg']}" for each in error.errors(include_input=False))
        raise RunError(f"the server cannot be asked: {problems}") from error
