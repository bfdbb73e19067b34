"""Serves a gateway until it is told to stop: sessions are given at the start, or opened over HTTP."""

import asyncio
import contextlib
import hmac
import signal
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from aiohttp import web
from pydantic import Field, SecretStr, ValidationError

from tumbler.config import Settings
from tumbler.contracts.gateway import Endpoint, GatewayCall
from tumbler.errors import RunFolderError
from tumbler_backends.gateway.bodies import read_body
from tumbler_backends.gateway.failures import Refused, refusal
from tumbler_backends.gateway.front import json_response
from tumbler_backends.gateway.journal import Journal
from tumbler_backends.gateway.standalone.sources import KeptSession, SessionSource
from tumbler_backends.gateway.wire.format import BadRequest

if TYPE_CHECKING:
    from tumbler_backends.gateway.gateway import HttpGateway

__all__ = ["SessionRequest", "StandaloneGateway", "named"]

_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
_PATH: Final = "/sessions"


class SessionRequest(Settings):
    """What opens a session."""

    name: Annotated[str, Field(pattern=_NAME)]
    """Also the name of its file."""
    calls: int | None = Field(default=None, ge=1)
    """Calls that are served at most; None for no bound."""
    secret: SecretStr | None = None
    """What its clients send; None draws one."""


@dataclass(frozen=True, kw_only=True)
class _Open:
    endpoint: Endpoint
    kept: KeptSession
    journal: Journal
    files: tuple[Path, ...]
    """Where it may be kept; of a served model's there are calls alone."""


class StandaloneGateway:
    """A gateway over one source of sessions.

    The calls of each session are in `<folder>/<name>.calls.jsonl` as soon as they are answered. At its end a policy's
    trajectory is written to `<folder>/<name>.jsonl`.
    """

    def __init__(
        self, gateway: "HttpGateway", source: SessionSource, folder: Path, *, admin: str | None = None
    ) -> None:
        """Open nothing yet; who sends `admin` as a bearer token may open and end sessions at /sessions."""
        self._gateway = gateway
        self._source = source
        self._folder = folder
        self._admin = admin
        self._open: dict[str, _Open] = {}
        if admin is not None:
            self._gateway.mount(_PATH, self._serve_sessions)

    async def serve(
        self, sessions: Sequence[SessionRequest], *, on_ready: Callable[[Mapping[str, Endpoint]], None]
    ) -> None:
        """Serve until the task is cancelled or the process gets SIGTERM or SIGINT.

        `on_ready` is called with the endpoints of the given sessions, by name, once they are served. At the end all
        sessions are ended and kept. Raises `RunError` where the address cannot be listened on.
        """
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        await self._gateway.start()
        try:
            with _told_to_stop() as stopped:
                on_ready({each.name: self.begin(each) for each in sessions})
                await stopped.wait()
        finally:
            await asyncio.shield(self._close())

    def begin(self, asked: SessionRequest) -> Endpoint:
        """Open a session; raises `RunFolderError` where one of its files is there already."""
        file, calls = (self._folder / f"{asked.name}{ending}" for ending in (".jsonl", ".calls.jsonl"))
        kept_by_others = {path for each in self._open.values() for path in each.files}
        taken = next((path for path in (file, calls) if path.exists() or path in kept_by_others), None)
        if taken is not None:
            raise RunFolderError(f"a session {asked.name!r} is kept already; choose another name, or move {taken}")
        kept = self._source.open(asked.name, file)
        journal = Journal(calls)
        try:
            endpoint = self._gateway.admit(
                asked.name,
                kept.answerer,
                calls=asked.calls,
                secret=None if asked.secret is None else asked.secret.get_secret_value(),
                journal=journal,
            )
        except BaseException:
            journal.close()
            calls.unlink()
            raise
        self._open[asked.name] = _Open(endpoint=endpoint, kept=kept, journal=journal, files=(file, calls))
        return endpoint

    async def end(self, name: str) -> Sequence[GatewayCall]:
        """End a session and keep it; raises `LookupError` where it is not open."""
        session = self._open.pop(name)
        calls = await self._gateway.end(session.endpoint)
        session.journal.close()
        await session.kept.keep()
        return calls

    async def _close(self) -> None:
        async with contextlib.AsyncExitStack() as ending:
            ending.push_async_callback(self._gateway.close)
            # Each is ended and kept, whatever befalls the others.
            for name in reversed(self._open):
                ending.push_async_callback(self.end, name)

    async def _serve_sessions(self, request: web.Request) -> web.StreamResponse:
        self._require_admin(request)
        name = request.path.removeprefix(_PATH).strip("/")
        if request.method == "POST" and not name:
            return await self._begin_asked(request)
        if request.method == "GET" and not name:
            return json_response({"sessions": sorted(self._open)})
        if request.method == "DELETE" and name:
            return await self._end_asked(name)
        raise Refused(405, "invalid_request_error", f"{request.method} {request.path} is not served")

    async def _begin_asked(self, request: web.Request) -> web.Response:
        try:
            asked = SessionRequest.model_validate(read_body(await request.read()))
        except ValidationError as error:
            problems = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()]
            raise Refused(400, "invalid_request_error", "; ".join(problems)) from error
        except BadRequest as error:
            raise refusal(error, session=_PATH) from error
        try:
            endpoint = self.begin(asked)
        except (RunFolderError, ValueError) as error:
            raise Refused(409, "invalid_request_error", str(error)) from error
        socket = None if endpoint.socket is None else str(endpoint.socket)
        described = {"url": endpoint.url, "secret": endpoint.secret, "socket": socket, "model": endpoint.model}
        length = {"context_length": endpoint.context_length}
        return json_response({"name": asked.name, **described, **length}, status=201)

    async def _end_asked(self, name: str) -> web.Response:
        if name not in self._open:
            raise Refused(404, "not_found_error", f"there is no open session {name!r}")
        files = self._open[name].files
        calls = await self.end(name)
        kept = [str(file) for file in files if file.exists()]
        return json_response({"name": name, "files": kept, "calls": [asdict(call) for call in calls]})

    def _require_admin(self, request: web.Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        secret = self._admin or ""
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), secret.encode()) or not secret:
            raise Refused(401, "authentication_error", "send the gateway's own secret as bearer token")


def named(name: str) -> SessionRequest:
    """Return the wish for a session of that name; raises `RunFolderError` where no file can have it."""
    try:
        return SessionRequest(name=name)
    except ValidationError as error:
        raise RunFolderError(
            f"a session cannot be named {name!r}: up to 100 letters, digits, dots, dashes and underscores name one"
        ) from error


@contextlib.contextmanager
def _told_to_stop() -> Generator[asyncio.Event, None, None]:
    """Give an event that SIGTERM and SIGINT set, where this thread gets them."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    handled = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):  # not the main thread
            loop.add_signal_handler(number, stopped.set)
            handled.append(number)
    try:
        yield stopped
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
