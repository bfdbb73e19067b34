"""A server of token ids, and backends that ask it."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from tests.backends.inference.openai.token_server import MODEL, TokenServer

from tumbler_backends.gateway.upstream.settings import UpstreamSettings
from tumbler_backends.inference.openai.policy import ServedPolicy


@pytest.fixture
def server(folder: Path) -> Iterator[TokenServer]:
    with TokenServer(folder) as opened:
        yield opened


@pytest.fixture
def make_served(server: TokenServer) -> Callable[..., ServedPolicy]:
    """Makes backends that ask the server; who makes one closes it."""

    def make(**settings: object) -> ServedPolicy:
        given = {"base_url": server.url, "model": MODEL, "longest_wait": 0.01, "timeout": 20} | settings
        return ServedPolicy(UpstreamSettings(**given))

    return make


@pytest.fixture
async def asking(make_served: Callable[..., ServedPolicy]) -> AsyncIterator[Callable[..., ServedPolicy]]:
    """Makes backends that ask the server, and closes them at the end."""
    made: list[ServedPolicy] = []

    def make(**settings: object) -> ServedPolicy:
        made.append(make_served(**settings))
        return made[-1]

    yield make
    for backend in made:
        await backend.close()
