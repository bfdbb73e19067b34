"""What the front end keeps of each sandbox between requests, and who may speak to one; knows no message."""

import re
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request

from tumbler.contracts.sandbox_control import CompleteSandbox
from tumbler.errors import SandboxDied, SandboxNotFound
from tumbler_backends.sandbox.service.e2b.contexts import ContextTable
from tumbler_backends.sandbox.service.e2b.faults import RefusedError
from tumbler_backends.sandbox.service.e2b.gate import Gate
from tumbler_backends.sandbox.service.e2b.processes import ProcessTable
from tumbler_backends.sandbox.service.e2b.tokens import signature_fits, token_fits, token_of
from tumbler_backends.sandbox.service.e2b.watchers import WatcherTable

__all__ = ["Box", "Boxes", "routed"]

_HOST: Final = re.compile(r"(?P<port>\d+)-(?P<sandbox>[^.]+)\.")


@dataclass(kw_only=True)
class Box:
    """One sandbox for the time of a request, with what is kept of it."""

    sandbox: CompleteSandbox
    processes: ProcessTable = field(default_factory=ProcessTable)
    watchers: WatcherTable = field(default_factory=WatcherTable)
    contexts: ContextTable = field(default_factory=ContextTable)


class Boxes:
    """All sandboxes that were asked for since the start."""

    def __init__(self, gate: Gate) -> None:
        """Know none."""
        self._gate = gate
        self._boxes: dict[str, Box] = {}
        self._known: set[str] = set()

    def token(self, identity: str) -> str:
        """Return a sandbox's access token, and remember the sandbox for signed URLs."""
        self._known.add(identity)
        return token_of(self._gate.secret, identity)

    def traffic_token(self, identity: str) -> str:
        """Return the token for what listens inside a sandbox, which opens nothing else."""
        return token_of(self._gate.secret, f"{identity} traffic")

    async def opened(self, request: Request, *, traffic: bool = False) -> Box:
        """Return the sandbox that a request is for, once its token is seen to fit; with `traffic`, either token does.

        Raises `RefusedError` with 401 for a wrong token, and with 502 where the sandbox does not live.
        """
        identity, _ = routed(request)
        if not identity:
            raise RefusedError(400, "the header E2b-Sandbox-Id is missing")
        secret, headers = self._gate.secret, request.headers
        fits = token_fits(secret, identity, headers.get("x-access-token", ""))
        if traffic and not fits:
            fits = token_fits(secret, f"{identity} traffic", headers.get("e2b-traffic-access-token", ""))
        if not fits:
            raise RefusedError(401, "the header X-Access-Token is missing or is not this sandbox's")
        return await self.box(identity)

    async def signed(self, request: Request, operation: str) -> Box:
        """Return the sandbox that a file request is for, opened by token or by the URL's signature."""
        query = request.query_params
        shown = query.get("signature")
        if shown is None or "x-access-token" in request.headers:
            return await self.opened(request)
        identity, _ = routed(request)
        # A URL below one address for all sandboxes does not name its own: only one token fits the signature.
        for each in [identity] if identity else sorted(self._known):
            if signature_fits(
                token_of(self._gate.secret, each),
                path=query.get("path", ""),
                operation=operation,
                user=query.get("username", ""),
                shown=shown,
                expiration=query.get("signature_expiration"),
            ):
                return await self.box(each)
        raise RefusedError(401, "the signature of the URL does not fit, or its time is over")

    async def box(self, identity: str) -> Box:
        """Return a living sandbox."""
        try:
            sandbox = await self._gate.get(None, identity)
        except (SandboxNotFound, SandboxDied):
            await self.forget(identity)
            raise RefusedError(502, "The sandbox was not found") from None
        box = self._boxes.get(sandbox.id)
        if box is None:
            box = self._boxes[sandbox.id] = Box(sandbox=sandbox)
        box.sandbox = sandbox
        return box

    async def forget(self, identity: str) -> None:
        """Drop what is kept of a sandbox that is gone."""
        self._known.discard(identity)
        box = self._boxes.pop(identity, None)
        if box is not None:
            await box.watchers.close()

    async def close(self) -> None:
        """Drop everything."""
        for identity in tuple(self._boxes):
            await self.forget(identity)


def routed(request: Request) -> tuple[str, int]:
    """Return the sandbox and the port that a request is for; the port is 0 where none is named."""
    headers = request.headers
    if identity := headers.get("e2b-sandbox-id", ""):
        port = headers.get("e2b-sandbox-port", "")
        return identity, int(port) if port.isdecimal() else 0
    found = _HOST.match(headers.get("host", ""))
    return (found["sandbox"], int(found["port"])) if found else ("", 0)
