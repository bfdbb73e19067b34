"""Requests about one sandbox: a service that does not know it any more means that it is gone."""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

import httpx
from pydantic import BaseModel

from tumbler.errors import SandboxDied, SandboxNotFound
from tumbler_backends.sandbox.remote.link import Link, Query, place

__all__ = ["Scope"]


class Scope:
    """A place below one sandbox."""

    def __init__(self, link: Link, identity: str, path: str) -> None:
        """Speak of what lies at `path`."""
        self._link = link
        self._identity = identity
        self._path = path

    @classmethod
    def of(cls, link: Link, identity: str) -> "Scope":
        """Return a sandbox's own place."""
        return cls(link, identity, place("sandboxes", identity))

    @property
    def local(self) -> bool:
        """Return whether the service is on this machine."""
        return self._link.local

    def below(self, *parts: str) -> "Scope":
        """Return a place below this one."""
        return Scope(self._link, self._identity, self._path + place(*parts))

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: BaseModel | bytes | AsyncIterable[bytes] | None = None,
        query: Query | None = None,
        seconds: float = 0.0,
        repeat: bool = False,
        pinned: bool = False,
    ) -> httpx.Response:
        """Ask as `Link.ask` does, below this place."""
        try:
            return await self._link.ask(
                method, self._path + path, body=body, query=query, seconds=seconds, repeat=repeat, pinned=pinned
            )
        except SandboxNotFound as error:
            raise self._died(error) from error

    @asynccontextmanager
    async def stream(self, path: str, query: Query, *, silence: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a body for reading as `Link.stream` does."""
        try:
            async with self._link.stream(self._path + path, query, silence=silence) as pieces:
                yield pieces
        except SandboxNotFound as error:
            raise self._died(error) from error

    def _died(self, error: SandboxNotFound) -> SandboxDied:
        return SandboxDied(f"sandbox {self._identity} is gone: {error}")
