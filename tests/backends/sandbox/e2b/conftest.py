import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn

from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings
from tumbler_backends.sandbox.service.e2b.app import e2b_app
from tumbler_backends.sandbox.service.e2b.gate import BackendGate
from tumbler_backends.sandbox.service.e2b.specs import E2bOptions

KEY = "e2b_" + "0" * 40
OTHER_KEY = "e2b_" + "1" * 40
_PATIENCE_S = 60.0


class FrontEnd:
    """The front end over bubblewrap, on a loopback port, in a thread with an event loop of its own."""

    def __init__(self, root: Path, options: E2bOptions | None = None) -> None:
        self.root = root
        self.key, self.other_key = KEY, OTHER_KEY
        self._options = options
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._ready = threading.Event()
        self._stop: Callable[[], None] = lambda: None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> "FrontEnd":
        self._thread.start()
        assert self._ready.wait(_PATIENCE_S)
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        self._stop()
        self._thread.join(_PATIENCE_S)
        assert not self._thread.is_alive(), "the server did not end"
        if self._failure is not None:
            raise self._failure

    def leftovers(self) -> list[Path]:
        return list(self.root.iterdir())

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # told to the test's own thread
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        backend = BubblewrapBackend(BubblewrapSettings(root=self.root, grace=0.2))
        await backend.start()
        gate = BackendGate(backend, {KEY: "tenant", OTHER_KEY: "other"})
        config = uvicorn.Config(
            e2b_app(gate, self._options), log_level="warning", access_log=False, timeout_graceful_shutdown=5
        )
        server = uvicorn.Server(config)
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._stop = lambda: loop.call_soon_threadsafe(over.set)
        serving = asyncio.create_task(server.serve(sockets=[self._socket]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        self._ready.set()
        await over.wait()
        await backend.close()
        server.should_exit = True
        await serving


@contextlib.contextmanager
def serving(root: Path, options: E2bOptions | None = None) -> Iterator[FrontEnd]:
    server = FrontEnd(root, options).start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def front_end(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontEnd]:
    with serving(tmp_path_factory.mktemp("front-end") / "sandboxes") as server:
        yield server
        left = server
    assert left.leftovers() == []
