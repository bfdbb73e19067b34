"""The remote backend: a service's sandboxes, as if they were here."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import urlencode

from pydantic import TypeAdapter

from tumbler.contracts.sandbox import SandboxCapabilities, SandboxSpec
from tumbler.contracts.sandbox_control import BackendMetrics, SandboxInfo, Template
from tumbler.errors import SandboxDied, SandboxError, SandboxNotFound, SandboxUnavailable
from tumbler_backends.sandbox.remote.counts import Counts
from tumbler_backends.sandbox.remote.link import Link, place
from tumbler_backends.sandbox.remote.sandbox import RemoteSandbox
from tumbler_backends.sandbox.remote.scope import Scope
from tumbler_backends.sandbox.remote.settings import RemoteSettings
from tumbler_backends.sandbox.wire.answers import InfoAnswer, ServerAnswer, TemplateAnswer
from tumbler_backends.sandbox.wire.fields import Answer
from tumbler_backends.sandbox.wire.spec import SpecBody

__all__ = ["RemoteBackend"]

_QUEUE_S: Final = 60.0
"""How long a creation may wait at the service."""
_SWEEP_S: Final = 120.0
_INFOS: Final = TypeAdapter(tuple[InfoAnswer, ...])
_TEMPLATES: Final = TypeAdapter(tuple[TemplateAnswer, ...])


class _Reconciled(Answer):
    removed: int


class RemoteBackend:
    """Creates sandboxes at a service. Its own are the sandboxes of its token, whoever of its holders made them."""

    def __init__(self, settings: RemoteSettings) -> None:
        """Keep the settings; nothing is sent before `start`."""
        self._settings = settings
        self._link = Link(settings)
        self._capabilities = SandboxCapabilities(tier="process", attach=True)
        self._counts = Counts()
        self._orphans: set[asyncio.Task[None]] = set()

    @property
    def capabilities(self) -> SandboxCapabilities:
        """Say what the service's backend can do; before `start`, the least that any service's can."""
        return self._capabilities

    async def start(self) -> None:
        """Ask the service what it can do."""
        self._link.open()
        response = await self._link.ask("GET", "/server", repeat=True, patience=self._settings.start_seconds)
        answer = ServerAnswer.model_validate_json(response.content)
        able = answer.capabilities.value()
        # Exposed ports are on the service's machine.
        self._capabilities = replace(able, attach=True, expose=able.expose and self._link.local)

    async def create(self, spec: SandboxSpec) -> RemoteSandbox:
        """Create a sandbox; one whose creation is cancelled is deleted as soon as it is there."""
        creation = asyncio.ensure_future(self._create(spec))
        try:
            return await asyncio.shield(creation)
        except asyncio.CancelledError:
            self._orphan(creation)
            raise
        except SandboxError:
            self._counts.start_failures += 1
            raise

    async def close(self) -> None:
        """Delete every sandbox that this instance created, and close the connections."""
        if self._orphans:
            await asyncio.wait(self._orphans)
        try:
            deletions = (self._link.ask("DELETE", place("sandboxes", each), repeat=True) for each in self._counts.made)
            outcomes = await asyncio.gather(*deletions, return_exceptions=True)
        finally:
            await self._link.close()
        for identity in tuple(self._counts.made):
            self._counts.deleted(identity)
        for outcome in outcomes:
            if isinstance(outcome, SandboxUnavailable):
                raise outcome

    @property
    def detachable(self) -> bool:
        """Say yes: the sandboxes are the service's, and their owner is the token."""
        return True

    async def detach(self) -> None:
        """Close the connections, and leave the sandboxes with the service."""
        if self._orphans:
            await asyncio.wait(self._orphans)
        await self._link.close()

    async def get(self, identity: str) -> RemoteSandbox:
        """Return a living sandbox by id or name."""
        path = place("sandboxes", identity)
        try:
            info = InfoAnswer.model_validate_json((await self._link.ask("GET", path, repeat=True)).content)
            response = await self._link.ask("GET", f"{path}/spec", repeat=True)
        except SandboxDied as error:
            raise SandboxNotFound(f"there is no living sandbox {identity!r}: {error}") from error
        return self._sandbox(info, SpecBody.model_validate_json(response.content).spec())

    async def attach(self, identity: str) -> RemoteSandbox:
        """Take over a living sandbox that another process made."""
        return await self.get(identity)

    async def list(self, *, labels: Mapping[str, str] | None = None, mine: bool = True) -> Sequence[SandboxInfo]:
        """Return the living sandboxes that have all these labels; those of other tokens are never shown."""
        path = "/sandboxes" + _labels(labels or {})
        response = await self._link.ask("GET", path, repeat=True)
        return [each.value() for each in _INFOS.validate_json(response.content)]

    async def reconcile(self) -> int:
        """Let the service remove what is past its time and what dead owners left."""
        response = await self._link.ask("POST", "/reconcile", seconds=_SWEEP_S, repeat=True)
        return _Reconciled.model_validate_json(response.content).removed

    async def templates(self) -> Sequence[Template]:
        """Return the snapshots, oldest first."""
        response = await self._link.ask("GET", "/templates", repeat=True)
        return [each.value() for each in _TEMPLATES.validate_json(response.content)]

    async def delete_template(self, identity: str) -> None:
        """Remove a snapshot."""
        await self._link.ask("DELETE", place("templates", identity), seconds=_SWEEP_S)

    @property
    def orphans(self) -> int:
        """Return how many cancelled creations are still being cleared away."""
        return len(self._orphans)

    def measure(self) -> BackendMetrics:
        """Return the counts of this client."""
        return self._counts.metrics(infra_failures=self._link.infra_failures)

    async def _create(self, spec: SandboxSpec) -> RemoteSandbox:
        began = time.perf_counter()
        key = spec.idempotency_key or uuid.uuid4().hex
        body = SpecBody.model_validate(replace(spec, idempotency_key=key))
        seconds = spec.startup_timeout + _QUEUE_S
        response = await self._link.ask("POST", "/sandboxes", body=body, seconds=seconds, repeat=True)
        info = InfoAnswer.model_validate_json(response.content)
        self._counts.created(info.id, time.perf_counter() - began)
        return self._sandbox(info, spec)

    def _sandbox(self, info: InfoAnswer, spec: SandboxSpec) -> RemoteSandbox:
        return RemoteSandbox(lambda identity: Scope.of(self._link, identity), info, spec, self._counts)

    def _orphan(self, creation: "asyncio.Future[RemoteSandbox]") -> None:
        async def remove() -> None:
            with contextlib.suppress(SandboxError, OSError, ValueError):
                await (await creation).delete()

        task = asyncio.ensure_future(remove())
        self._orphans.add(task)
        task.add_done_callback(self._orphans.discard)


def _labels(labels: Mapping[str, str]) -> str:
    return f"?{urlencode([('label', f'{key}={value}') for key, value in labels.items()])}" if labels else ""
