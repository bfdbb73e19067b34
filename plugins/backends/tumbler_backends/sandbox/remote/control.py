"""The life, network and copies of a remote sandbox."""

from collections.abc import Sequence
from typing import Final

from pydantic import TypeAdapter

from tumbler.contracts.sandbox import NetworkPolicy
from tumbler.contracts.sandbox_control import EgressRecord, SandboxInfo, SandboxUsage, Template
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.remote.scope import Scope
from tumbler_backends.sandbox.wire.answers import EgressAnswer, InfoAnswer, TemplateAnswer, UsageAnswer
from tumbler_backends.sandbox.wire.fields import Answer
from tumbler_backends.sandbox.wire.requests import LifetimeBody
from tumbler_backends.sandbox.wire.spec import NetworkBody

__all__ = ["RemoteControl"]

_FREEZE_S: Final = 60.0
_COPY_S: Final = 600.0
_EGRESS: Final = TypeAdapter(tuple[EgressAnswer, ...])


class _Address(Answer):
    url: str


class RemoteControl:
    """What an owner does with a sandbox; see `tumbler.contracts.sandbox_control.ControlledSandbox`."""

    _scope: Scope

    async def info(self) -> SandboxInfo:
        """Describe it."""
        response = await self._scope.ask("GET", "", repeat=True)
        return InfoAnswer.model_validate_json(response.content).value()

    async def extend(self, ttl: float) -> None:
        """Let it live `ttl` seconds from now on."""
        await self._scope.ask("POST", "/extend", body=LifetimeBody(ttl=ttl), repeat=True)

    async def heartbeat(self) -> None:
        """Count as a use, for `idle_ttl`."""
        await self._scope.ask("POST", "/heartbeat", repeat=True)

    async def pause(self) -> None:
        """Freeze all processes."""
        await self._scope.ask("POST", "/pause", seconds=_FREEZE_S, repeat=True)

    async def resume(self) -> None:
        """Undo `pause`."""
        await self._scope.ask("POST", "/resume", seconds=_FREEZE_S, repeat=True)

    async def set_network(self, policy: NetworkPolicy) -> None:
        """Replace the network policy at once."""
        body = NetworkBody.model_validate(policy)
        await self._scope.ask("PUT", "/network", body=body, seconds=_FREEZE_S, repeat=True)

    async def egress(self) -> Sequence[EgressRecord]:
        """Return what was tried to be reached, oldest first."""
        response = await self._scope.ask("GET", "/egress", repeat=True)
        return [each.value() for each in _EGRESS.validate_json(response.content)]

    async def expose(self, port: int) -> str:
        """Return a URL at which this machine reaches a port that is listened on inside; the service must be here."""
        if not self._scope.local:
            raise CapabilityError("ports are exposed on the service's machine, which is not this one")
        response = await self._scope.ask("POST", f"/ports/{port}", seconds=_FREEZE_S, repeat=True)
        return _Address.model_validate_json(response.content).url

    async def usage(self) -> SandboxUsage:
        """Measure what it uses."""
        response = await self._scope.ask("GET", "/usage", seconds=_FREEZE_S, repeat=True)
        return UsageAnswer.model_validate_json(response.content).value()

    async def snapshot(self) -> Template:
        """Copy its files into a template."""
        response = await self._scope.ask("POST", "/snapshot", seconds=_COPY_S)
        return TemplateAnswer.model_validate_json(response.content).value()
