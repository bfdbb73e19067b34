"""Sandboxes for code without an event loop: every call runs in one loop in the background and waits for it."""

import atexit
import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tumbler.contracts.sandbox import SandboxBackend, SandboxCapabilities, SandboxSpec
from tumbler.contracts.sandbox_control import BackendMetrics, ManagedBackend, SandboxInfo, Template
from tumbler.errors import SandboxUnavailable
from tumbler.sandboxes.background import BackgroundLoop
from tumbler.sandboxes.narrowing import managed_backend
from tumbler.sandboxes.sync_processes import SyncProcess, SyncSession
from tumbler.sandboxes.sync_sandbox import SyncSandbox

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.values import JSON
    from tumbler.plugins import PluginHost

__all__ = ["SyncBackend", "SyncProcess", "SyncSandbox", "SyncSession", "cleanup"]

_LOG = logging.getLogger("tumbler.sandboxes")
_STARTED: "set[SyncBackend]" = set()


class SyncBackend:
    """A sandbox backend; as a context manager it is started and closed.

    What is still open when the interpreter ends is closed then.
    """

    def __init__(self, backend: SandboxBackend) -> None:
        """Take over a backend that is not started."""
        self._backend = backend
        self._loop: BackgroundLoop | None = None

    @classmethod
    def open(
        cls,
        component_id: str,
        settings: "Settings | Mapping[str, JSON] | None" = None,
        *,
        host: "PluginHost | None" = None,
    ) -> Self:
        """Return a backend by its component id; see `tumbler.sandboxes.open_backend` for arguments and errors."""
        from tumbler.sandboxes.open import build_backend

        return cls(build_backend(component_id, settings, host=host))

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @property
    def capabilities(self) -> SandboxCapabilities:
        """Say what the backend can do."""
        return self._backend.capabilities

    def start(self) -> None:
        """Start the backend in a loop of its own."""
        if self._loop is not None:
            return
        loop = BackgroundLoop()
        try:
            loop.run(self._backend.start())
        except BaseException:
            loop.stop()
            raise
        self._loop = loop
        _STARTED.add(self)
        # Registered after the backend's own exit functions, and so called before them.
        atexit.register(self._close_at_exit)

    def close(self) -> None:
        """Delete every sandbox that this backend created. Safe to call twice."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        _STARTED.discard(self)
        atexit.unregister(self._close_at_exit)
        try:
            loop.run(self._backend.close())
        finally:
            loop.stop()

    def create(self, spec: SandboxSpec = SandboxSpec()) -> SyncSandbox:  # noqa: B008  # frozen
        """Create a sandbox that is ready for its first command."""
        return SyncSandbox(self._running.run(self._backend.create(spec)), self._running)

    def get(self, identity: str) -> SyncSandbox:
        """Return a living sandbox of this owner by id or name."""
        return SyncSandbox(self._running.run(self._managed.get(identity)), self._running)

    def attach(self, identity: str) -> SyncSandbox:
        """Take over a living sandbox that another process made."""
        return SyncSandbox(self._running.run(self._managed.attach(identity)), self._running)

    def list(self, *, labels: Mapping[str, str] | None = None, mine: bool = True) -> Sequence[SandboxInfo]:
        """Return the living sandboxes that have all these labels, oldest first."""
        return self._running.run(self._managed.list(labels=labels, mine=mine))

    def reconcile(self) -> int:
        """Remove what is past its time and what dead owners left."""
        return self._running.run(self._managed.reconcile())

    def templates(self) -> Sequence[Template]:
        """Return the snapshots, oldest first."""
        return self._running.run(self._managed.templates())

    def delete_template(self, identity: str) -> None:
        """Remove a snapshot."""
        self._running.run(self._managed.delete_template(identity))

    def measure(self) -> BackendMetrics:
        """Return the counts."""
        return self._managed.measure()

    @property
    def _running(self) -> BackgroundLoop:
        if self._loop is None:
            raise SandboxUnavailable("the backend is not started: use it in a `with` block, or call its start()")
        return self._loop

    @property
    def _managed(self) -> ManagedBackend:
        return managed_backend(self._backend)

    def _close_at_exit(self) -> None:
        try:
            self.close()
        # The interpreter is ending, and the backend may be anybody's code.
        except Exception as error:  # noqa: BLE001  # see above
            _LOG.warning("the sandboxes of %s could not all be deleted: %s", type(self._backend).__name__, error)


def cleanup() -> None:
    """Close every backend that is still open; the interpreter's end does the same."""
    for backend in tuple(_STARTED):
        backend.close()
