"""The open sessions by their secrets; knows no server."""

import hmac
from collections import OrderedDict
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

from tumbler_backends.gateway.failures import FINAL, Refused
from tumbler_backends.gateway.session import LiveSession

__all__ = ["Sessions"]

_ENDED: Final = 4096
"""Ended sessions that are told from wrong secrets."""


class Sessions:
    """Finds sessions by secret. What is looked up is a digest, so that time tells nothing of how near a guess was."""

    def __init__(self) -> None:
        """Start with none."""
        self._open: dict[bytes, LiveSession] = {}
        self._ended: OrderedDict[bytes, None] = OrderedDict()

    def __iter__(self) -> Iterator[LiveSession]:
        """Iterate over the open sessions."""
        return iter(list(self._open.values()))

    def add(self, session: LiveSession) -> None:
        """Let a session be found; raises `ValueError` where its secret is another's."""
        digest = _digest(session.terms.secret)
        if digest in self._open:
            raise ValueError(f"session {session.terms.name!r} has the same secret as another one")
        self._open[digest] = session
        self._ended.pop(digest, None)

    def remove(self, secret: str) -> LiveSession | None:
        """Let a session be found no more, and return it; None if it is not open."""
        digest = _digest(secret)
        session = self._open.pop(digest, None)
        if session is not None:
            self._ended[digest] = None
            if len(self._ended) > _ENDED:
                self._ended.popitem(last=False)
        return session

    def find(self, secret: str | None) -> LiveSession:
        """Return the session of a secret."""
        if not secret:
            raise Refused(401, "authentication_error", "send the session's secret as bearer token or API key")
        digest = _digest(secret)
        session = self._open.get(digest)
        if session is not None and hmac.compare_digest(session.terms.secret.encode(), _encode(secret)):
            return session
        if digest in self._ended:
            raise Refused(410, "session_over", "this session is over", headers=FINAL)
        raise Refused(401, "authentication_error", "no session has this secret")


def _digest(secret: str) -> bytes:
    return blake2b(_encode(secret), digest_size=32).digest()


def _encode(secret: str) -> bytes:
    # Header values may hold bytes that are no UTF-8, as escapes.
    return secret.encode(errors="surrogateescape")
