"""The service as a component: it starts the backend, listens, and ends in order."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Final, cast

import uvicorn

from tumbler.contracts.sandbox import SandboxBackend
from tumbler.contracts.sandbox_control import DetachableBackend, ManagedBackend
from tumbler.contracts.sandbox_service import EnvironmentSource
from tumbler.errors import ContractError, SandboxError, SandboxUnavailable
from tumbler_backends.sandbox.service.admission import Admission
from tumbler_backends.sandbox.service.application import make_application
from tumbler_backends.sandbox.service.desk import Desk
from tumbler_backends.sandbox.service.e2b.app import e2b_app
from tumbler_backends.sandbox.service.gem import OpenEnvironments
from tumbler_backends.sandbox.service.holdings import Holdings
from tumbler_backends.sandbox.service.policy import SpecPolicy
from tumbler_backends.sandbox.service.settings import ServiceSettings
from tumbler_backends.sandbox.service.tenant_gate import TenantGate
from tumbler_backends.sandbox.service.tenants import Tenants

__all__ = ["HttpService"]

_LOG = logging.getLogger("tumbler.sandbox.service")

_REFRESH_S: Final = 5.0
_ON_THIS_MACHINE: Final = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}
"""Addresses that can be listened on and not connected to → one that clients of this machine can use."""
_KEEP_ALIVE_S: Final = 75
"""Longer than clients keep idle connections, so that none is closed just as a request goes out."""


class HttpService:
    """Serves one backend over HTTP, to several tenants."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Keep the settings; nothing is opened before `serve`."""
        self._settings = settings

    async def serve(
        self, backend: SandboxBackend, *, environments: EnvironmentSource, on_ready: Callable[[str], None]
    ) -> None:
        """Serve until cancelled or told to stop; see `tumbler.contracts.sandbox_service.SandboxService.serve`."""
        if not isinstance(backend, ManagedBackend):
            raise ContractError(
                f"{type(backend).__name__} cannot be served: it does not find its sandboxes again, as "
                "tumbler.contracts.sandbox_control.ManagedBackend asks"
            )
        with _listening(self._settings) as listener:
            await backend.start()
            try:
                desk = self._desk(backend, environments)
                await desk.holdings.refresh()
                async with _upkeep(desk):
                    await self._answer(desk, listener, on_ready)
            finally:
                await asyncio.shield(self._end(backend))

    async def _end(self, backend: ManagedBackend) -> None:
        if self._settings.on_stop == "keep" and isinstance(backend, DetachableBackend) and backend.detachable:
            await backend.detach()
        else:
            await backend.close()

    def _desk(self, backend: ManagedBackend, environments: EnvironmentSource) -> Desk:
        settings = self._settings
        admission = Admission(
            concurrent=settings.concurrent_creates, queue=settings.queue, patience=settings.queue_seconds
        )
        policy = SpecPolicy(settings.host_paths, backend.capabilities)
        holdings = Holdings(backend, policy, admission)
        return Desk(
            settings=settings,
            tenants=Tenants(settings),
            holdings=holdings,
            capabilities=backend.capabilities,
            environments=OpenEnvironments(environments, holdings, settings.environment_idle),
        )

    async def _answer(self, desk: Desk, listener: socket.socket, on_ready: Callable[[str], None]) -> None:
        front = e2b_app(TenantGate(self._settings, desk.tenants, desk.holdings))
        async with front.router.lifespan_context(front):
            server = _Server(
                uvicorn.Config(
                    make_application(desk, front),
                    log_level="warning",
                    access_log=False,
                    lifespan="off",
                    server_header=False,
                    timeout_keep_alive=_KEEP_ALIVE_S,
                    timeout_graceful_shutdown=max(1, round(self._settings.shutdown_seconds)),
                )
            )
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            try:
                with _told_to_stop(server):
                    await _first(server.ready.wait(), serving)
                    on_ready(_url(self._settings.host, listener))
                    await asyncio.shield(serving)
            finally:
                server.should_exit = True
                desk.holdings.stop()
                await asyncio.wait({serving})
        if not serving.cancelled():
            serving.result()


class _Server(uvicorn.Server):
    """A server that leaves the process's signals alone: they must reach the backend's end too."""

    def __init__(self, config: uvicorn.Config) -> None:
        """Prepare to tell when connections are taken."""
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell so."""
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield


@contextlib.contextmanager
def _listening(settings: ServiceSettings) -> Generator[socket.socket, None, None]:
    try:
        listener = _listener(settings.host, settings.port)
    except OSError as error:
        raise SandboxUnavailable(
            f"the service cannot listen on {settings.host}, port {settings.port}: {error}; "
            "choose another with `port`, or 0 for any that is free"
        ) from error
    with listener:
        yield listener


def _listener(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    # The event loop sends small answers at once only where a socket names its protocol; 40 ms a call otherwise.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _told_to_stop(server: uvicorn.Server) -> Generator[None, None, None]:
    """Stop in order at SIGTERM and SIGINT, where this thread gets them."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    handled = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):  # not the main thread
            loop.add_signal_handler(number, stop)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


async def _first(event: Coroutine[object, object, object], serving: "asyncio.Future[None]") -> None:
    """Wait for the event, or for the end of a server that fails at its start."""
    waiting: asyncio.Future[object] = asyncio.ensure_future(event)
    serving.add_done_callback(lambda _: waiting.cancel())
    await asyncio.wait({waiting})


@contextlib.asynccontextmanager
async def _upkeep(desk: Desk) -> AsyncIterator[None]:
    """Let go of what died and close idle environments, for as long as the service runs."""
    tasks = [asyncio.ensure_future(_refresh(desk.holdings)), asyncio.ensure_future(desk.environments.sweep())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await desk.environments.close_all()


async def _refresh(holdings: Holdings) -> None:
    while True:
        await asyncio.sleep(_REFRESH_S)
        try:
            await holdings.refresh()
        except (SandboxError, OSError) as error:
            _LOG.warning("the backend does not list its sandboxes: %s", error)


def _url(host: str, listener: socket.socket) -> str:
    host = _ON_THIS_MACHINE.get(host, host)
    shown = f"[{host}]" if ":" in host else host
    port = cast("int", listener.getsockname()[1])
    return f"http://{shown}:{port}"
