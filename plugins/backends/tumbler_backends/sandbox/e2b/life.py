"""Whether a sandbox lives, how it ended, and when it was last used; knows no wire."""

import asyncio
import contextlib
import time
from collections.abc import Iterator

from tumbler.errors import SandboxDied

__all__ = ["Life"]


class Life:
    """One sandbox's life as this process knows it."""

    def __init__(self, identity: str, expires: float) -> None:
        """Begin alive; `expires` is in seconds since the epoch."""
        self.identity = identity
        self.expires = expires
        self.running = asyncio.Event()
        """Set unless the sandbox is paused."""
        self.running.set()
        self._end: tuple[str, str | None] | None = None
        self._active = 0
        self._used = time.monotonic()

    @property
    def ended(self) -> bool:
        """Tell whether it is known to be gone."""
        return self._end is not None

    def require(self) -> None:
        """Raise `SandboxDied` once the sandbox is known to be gone."""
        if self._end is not None:
            raise self.death()

    def death(self) -> SandboxDied:
        """Return the error that tells of the end."""
        why, cause = self._end or ("it does not run any more", None)
        return SandboxDied(f"sandbox {self.identity} is gone: {why}; create another", cause)

    def end(self, why: str, cause: str | None) -> None:
        """Note the end; the first reason stays."""
        if self._end is None:
            self._end = (why, cause)
        self.running.set()

    def lost(self) -> SandboxDied:
        """Note that the service knows the sandbox no more, and return the error that tells so."""
        if time.time() >= self.expires - 1:  # the service counts whole seconds
            self.end("its time to live is over", "ttl")
        else:
            self.end("the service does not know it any more", None)
        return self.death()

    def use(self) -> None:
        """Count as a use."""
        self._used = time.monotonic()

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Count as a use as long as the block lasts."""
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1
            self.use()

    def idle_seconds(self) -> float:
        """Return how long nobody has used it."""
        return 0.0 if self._active else time.monotonic() - self._used
