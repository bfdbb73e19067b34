"""How programs are told where a chat API is and how to enter it; knows no program."""

from typing import Literal, TypeAlias

from tumbler.contracts.gateway import Endpoint

__all__ = ["Api", "base_url", "environment_of"]

Api: TypeAlias = Literal["chat-completions", "responses", "messages"]


def base_url(api: Api, endpoint: Endpoint) -> str:
    """Return what clients of the API call their base URL: OpenAI's ends in the version, Anthropic's does not."""
    return endpoint.url if api == "messages" else f"{endpoint.url}/v1"


def environment_of(api: Api, endpoint: Endpoint) -> dict[str, str]:
    """Return the variables that clients of the API look at; proxies are told to leave the way alone."""
    base = base_url(api, endpoint)
    direct = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
    if api == "messages":
        return {
            **direct,
            "ANTHROPIC_BASE_URL": base,
            "ANTHROPIC_API_KEY": endpoint.secret,
            "ANTHROPIC_MODEL": endpoint.model,
            "ANTHROPIC_SMALL_FAST_MODEL": endpoint.model,
        }
    return {
        **direct,
        "OPENAI_BASE_URL": base,
        "OPENAI_API_BASE": base,
        "OPENAI_API_KEY": endpoint.secret,
        "OPENAI_MODEL": endpoint.model,
    }
