"""The registration of the gateway and of served models; knows names, not code."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.chat import ChatModel
    from tumbler.contracts.gateway import ModelGateway
    from tumbler.contracts.inference import InferenceBackend

__all__ = ["tumbler_backends"]


def _load() -> "type[ModelGateway]":
    from tumbler_backends.gateway.gateway import HttpGateway

    return HttpGateway


def _config() -> "type[Settings]":
    from tumbler_backends.gateway.settings import GatewaySettings

    return GatewaySettings


def _load_served() -> "type[ChatModel] | type[InferenceBackend]":
    from tumbler_backends.inference.openai.policy import ServedPolicy

    return ServedPolicy


def _served_config() -> "type[Settings]":
    from tumbler_backends.gateway.upstream.settings import UpstreamSettings

    return UpstreamSettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Offer the gateway under the name `gateway`, and served models under `openai`."""
    return [
        BackendSpec(
            name="gateway",
            summary="Lets any program speak to the policy as to OpenAI's and Anthropic's APIs, and records it.",
            roles=("gateway",),
            load=_load,
            config=_config,
            extra="gateway",
        ),
        BackendSpec(
            name="openai",
            summary="A model behind OpenAI's API: any for chats, one that takes token ids for evaluations too.",
            roles=("chat", "inference"),
            load=_load_served,
            config=_served_config,
            extra="gateway",
            default=True,
            default_roles=("chat",),
        ),
    ]
