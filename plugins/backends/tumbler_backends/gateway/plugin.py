"""The gateway's registration; knows names, not code."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.gateway import ModelGateway

__all__ = ["tumbler_backends"]


def _load() -> "type[ModelGateway]":
    from tumbler_backends.gateway.gateway import HttpGateway

    return HttpGateway


def _config() -> "type[Settings]":
    from tumbler_backends.gateway.settings import GatewaySettings

    return GatewaySettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Offer the gateway under the name `gateway`."""
    return [
        BackendSpec(
            name="gateway",
            summary="Lets any program speak to the policy as to OpenAI's and Anthropic's APIs, and records it.",
            roles=("gateway",),
            load=_load,
            config=_config,
            extra="gateway",
        )
    ]
