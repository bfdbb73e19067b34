"""The two sockets of a gateway, and the server on them; knows no session."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from tumbler.errors import RunError
from tumbler_backends.gateway.settings import GatewaySettings

__all__ = ["Listener"]

_HOST: Final = "127.0.0.1"
_BACKLOG: Final = 1024
_IDLE_S: Final = 75.0
"""Longer than clients keep idle connections, so that none is closed just as a request goes out."""
_PATH_BYTES: Final = 107
"""The longest path of a unix socket."""


class Listener:
    """Listens on loopback, and on a unix socket that its own user alone may open."""

    def __init__(
        self, settings: GatewaySettings, handle: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> None:
        """Serve every request with `handle`."""
        self._settings = settings
        application = web.Application(client_max_size=settings.body_bytes)
        application.router.add_route("*", "/{path:.*}", handle)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=_IDLE_S,
            shutdown_timeout=settings.shutdown_seconds,
        )
        self._folder: Path | None = None
        self._url: str | None = None

    @property
    def url(self) -> str:
        """Return where it is reached over TCP."""
        if self._url is None:
            raise RunError("the gateway does not listen yet")
        return self._url

    @property
    def socket(self) -> Path | None:
        """Return the unix socket, where there is one."""
        return None if self._folder is None else self._folder / "gateway.sock"

    async def start(self) -> None:
        """Listen; raises `RunError` where that is not possible."""
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, _HOST, self._settings.port, backlog=_BACKLOG)
            await site.start()
            if self._settings.unix_socket:
                await self._listen_on_file()
        except OSError as error:
            raise RunError(
                f"the gateway cannot listen on {_HOST}, port {self._settings.port}, and a unix socket: {error}; "
                "choose another `port`, or 0 for any that is free, or set unix_socket = false"
            ) from error
        self._url = f"http://{_HOST}:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        """Stop listening, let requests end, and remove the socket."""
        await self._runner.cleanup()
        folder, self._folder = self._folder, None
        if folder is not None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _listen_on_file(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tumbler-gateway-"))
        path = self._folder / "gateway.sock"
        if len(bytes(path)) > _PATH_BYTES:
            raise RunError(f"{path} is too long for a unix socket; set TMPDIR to a shorter one, or unix_socket = false")
        site = web.UnixSite(self._runner, str(path), backlog=_BACKLOG)
        await site.start()
        path.chmod(0o600)
