"""The registration of served models; knows names, not code."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.chat import ChatModel

__all__ = ["tumbler_backends"]


def _load() -> "type[ChatModel]":
    from tumbler_backends.gateway.upstream.model import UpstreamModel

    return UpstreamModel


def _config() -> "type[Settings]":
    from tumbler_backends.gateway.upstream.settings import UpstreamSettings

    return UpstreamSettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Offer served models under the name `openai`."""
    return [
        BackendSpec(
            name="openai",
            summary="A model that any server of OpenAI's chat completions offers.",
            roles=("chat",),
            load=_load,
            config=_config,
            extra="gateway",
        )
    ]
