"""The gateway as a component: it listens, and opens and ends sessions."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tumbler.contracts.gateway import Endpoint, GatewayCall, GatewaySession, UpstreamServer
from tumbler.contracts.inference import InferenceBackend, Sampling
from tumbler.dialects import dialect
from tumbler.errors import ContractError, RunError
from tumbler_backends.gateway.answering import Answerer
from tumbler_backends.gateway.apis import APIS
from tumbler_backends.gateway.front import Front, Handler
from tumbler_backends.gateway.journal import Journal
from tumbler_backends.gateway.listening import Listener
from tumbler_backends.gateway.policy import PolicyAnswerer
from tumbler_backends.gateway.replay import Recording, Replay
from tumbler_backends.gateway.session import LiveSession, Terms
from tumbler_backends.gateway.sessions import Sessions
from tumbler_backends.gateway.settings import GatewaySettings
from tumbler_backends.gateway.standalone.service import StandaloneGateway, named
from tumbler_backends.gateway.standalone.sources import session_source

__all__ = ["HttpGateway"]

_SECRET_BYTES = 32


class HttpGateway:
    """Serves any number of sessions over one address of this machine."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Keep the settings; nothing is opened before `start`."""
        self._settings = settings
        self._dialect = dialect(settings.dialect)
        self._sessions = Sessions()
        self._listener: Listener | None = None
        self._journal: Journal | None = None
        self._recording: Recording | None = None
        self._others: dict[str, Handler] = {}

    async def start(self) -> None:
        """Listen, on loopback only."""
        if self._listener is not None:
            raise ContractError("the gateway is started already; `close` it first")
        settings = self._settings
        if settings.replay is not None:
            self._recording = Recording(settings.replay)
        if settings.record is not None:
            self._journal = Journal(settings.record)
        front = Front(self._sessions, APIS, settings, self._others)
        self._listener = Listener(settings, front.handle)
        try:
            await self._listener.start()
        except BaseException:
            await self.close()
            raise

    async def open(self, session: GatewaySession) -> Endpoint:
        """Begin a session and return where it is reached."""
        policy = PolicyAnswerer(
            session,
            self._dialect,
            client_temperature=self._settings.client_temperature,
            tell_tokens=self._journal is not None,
        )
        return self.admit(session.name, policy, calls=session.calls)

    async def end(self, endpoint: Endpoint) -> Sequence[GatewayCall]:
        """End a session: cancel what is in flight, forget the secret, and return its calls in order."""
        session = self._sessions.remove(endpoint.secret)
        if session is None:
            return ()
        await session.end()
        return session.calls

    async def close(self) -> None:
        """End all sessions and stop listening."""
        sessions = list(self._sessions)
        for session in sessions:
            self._sessions.remove(session.terms.secret)
        await asyncio.gather(*(session.end() for session in sessions))
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.close()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def admit(
        self,
        name: str,
        answerer: Answerer,
        *,
        calls: int | None = None,
        secret: str | None = None,
        journal: Journal | None = None,
    ) -> Endpoint:
        """Begin a session that anything answers, with a given secret or a new one; `journal` is its own, if any."""
        url, socket = self._address()
        secret = secret or secrets.token_urlsafe(_SECRET_BYTES)
        replay = None if self._recording is None else Replay(self._recording.take(name), answerer)
        terms = Terms(
            name=name,
            secret=secret,
            answerer=replay or answerer,
            calls=calls,
            journals=[each for each in (journal, self._journal) if each is not None],
            number=None if replay is None else replay.number,
        )
        self._sessions.add(LiveSession(terms, self._settings))
        return Endpoint(
            url=url,
            secret=secret,
            socket=socket,
            model=self._settings.model,
            context_length=answerer.context_length,
        )

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
        """Serve a model until told to stop; see `tumbler.contracts.gateway.GatewayService.serve`."""
        asked = [named(name) for name in sessions]
        client_temperature = self._settings.client_temperature
        async with session_source(source, self._dialect, sampling, client_temperature=client_temperature) as opened:
            await StandaloneGateway(self, opened, folder, admin=admin).serve(asked, on_ready=on_ready)

    def mount(self, path: str, handler: Handler) -> None:
        """Serve requests below a path of one word with `handler`; call it before `start`."""
        self._others[path] = handler

    def _address(self) -> tuple[str, Path | None]:
        if self._listener is None:
            raise RunError("the gateway is not started; call `start` first")
        return self._listener.url, self._listener.socket
