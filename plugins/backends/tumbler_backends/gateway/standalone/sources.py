"""Who answers the sessions of a gateway of its own, and what is kept of them; knows no server."""

import json
from pathlib import Path
from typing import Protocol

from tumbler.contracts.chat import ChatModel, Dialect
from tumbler.contracts.gateway import GatewaySession
from tumbler.contracts.inference import InferenceBackend, Sampling
from tumbler.trajectory import trajectory_to_json
from tumbler_backends.gateway.answering import Answerer
from tumbler_backends.gateway.journal import Journal
from tumbler_backends.gateway.policy import PolicyAnswerer
from tumbler_backends.gateway.served import ServedAnswerer
from tumbler_backends.gateway.standalone.recorded import RecordedPolicy

__all__ = ["KeptSession", "PolicySessions", "ServedSessions", "SessionSource"]


class KeptSession(Protocol):
    """One session and its file."""

    @property
    def answerer(self) -> Answerer:
        """Return who answers."""
        ...

    @property
    def journal(self) -> Journal | None:
        """Return where its calls are written as they come; None where the file is written at the end."""
        ...

    async def keep(self) -> None:
        """Finish the file, when the session is over."""
        ...


class SessionSource(Protocol):
    """Opens sessions."""

    def open(self, name: str, file: Path) -> KeptSession:
        """Begin a session that is kept in `file`."""
        ...


class PolicySessions:
    """Sessions that a policy answers; each file holds the trajectory, on one line."""

    def __init__(
        self,
        inference: InferenceBackend,
        dialect: Dialect,
        sampling: Sampling,
        *,
        seed: int = 0,
        client_temperature: bool = True,
    ) -> None:
        """Sample from a backend that is started."""
        self._inference = inference
        self._dialect = dialect
        self._sampling = sampling
        self._seed = seed
        self._client_temperature = client_temperature

    def open(self, name: str, file: Path) -> "_PolicySession":
        """Begin a session."""
        policy = RecordedPolicy(name, self._inference, self._sampling, self._seed)
        session = GatewaySession(
            name=name, model=policy, tokenizer=self._inference.tokenizer, max_tokens=self._sampling.max_tokens
        )
        answerer = PolicyAnswerer(session, self._dialect, client_temperature=self._client_temperature)
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

    @property
    def journal(self) -> None:
        """Return none."""
        return

    async def keep(self) -> None:
        """Write the trajectory."""
        line = json.dumps(trajectory_to_json(self._policy.trajectory()))
        partial = self._file.with_name(f".{self._file.name}.partial")
        partial.write_text(line + "\n", encoding="utf-8")
        partial.replace(self._file)
        await self._policy.release()


class ServedSessions:
    """Sessions that a served model answers; each file holds the calls, one a line."""

    def __init__(self, model: ChatModel, *, max_tokens: int | None = None) -> None:
        """Ask `model`; a reply has `max_tokens` at most."""
        self._model = model
        self._max_tokens = max_tokens

    def open(self, name: str, file: Path) -> "_ServedSession":
        """Begin a session."""
        return _ServedSession(ServedAnswerer(self._model, max_tokens=self._max_tokens), Journal(file))


class _ServedSession:
    def __init__(self, answerer: ServedAnswerer, journal: Journal) -> None:
        self._answerer = answerer
        self._journal = journal

    @property
    def answerer(self) -> Answerer:
        """Return the model."""
        return self._answerer

    @property
    def journal(self) -> Journal:
        """Return the session's file."""
        return self._journal

    async def keep(self) -> None:
        """Close the file."""
        self._journal.close()
