"""Servers that run already."""

import asyncio

import pytest
from pydantic import ValidationError

from tumbler.contracts.inference import WeightUpdate
from tumbler.errors import InferenceError
from tumbler_backends.inference.vllm.settings import VllmSettings


async def test_an_attached_server_gets_the_runs_weights_as_version_0(serve, stand, ask, models):
    server = await stand()
    first = await serve(**server.settings)
    await first.update_weights(WeightUpdate(version=5, folder=models[1]))
    second = await serve(**server.settings)
    reply = await second.generate(ask())
    assert reply.policy_version == 0
    launched = await serve()
    assert (await launched.generate(ask())).logprobs == reply.logprobs


async def test_closing_leaves_an_attached_server_alone(serve, stand):
    server = await stand()
    backend = await serve(**server.settings)
    await backend.close()
    assert (await server.status())["version"] == 0


async def test_an_attached_server_that_comes_back_gets_the_current_weights(serve, stand, ask, models):
    server = await stand()
    backend = await serve(**server.settings)
    await backend.update_weights(WeightUpdate(version=5, folder=models[1]))
    await server.kill()
    waiting = asyncio.create_task(backend.generate(ask()))
    await stand(port=server.address.port)
    assert (await waiting).policy_version == 5


async def test_a_server_with_another_secret_is_refused(serve, stand):
    server = await stand()
    with pytest.raises(InferenceError, match=r"401.*secret"):
        await serve(addresses=server.settings["addresses"], secret="another")


async def test_a_server_that_nobody_started_is_named(serve, unused_tcp_port):
    with pytest.raises(InferenceError, match=f"no vLLM server answered at 127.0.0.1:{unused_tcp_port}"):
        await serve(addresses=[f"127.0.0.1:{unused_tcp_port}"], secret="s", start_timeout=0.2)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"addresses": ["127.0.0.1:1"]}, "set together"),
        ({"secret": "s"}, "set together"),
        ({"addresses": ["127.0.0.1:1"], "secret": "s", "replicas": 2}, "replicas cannot be set"),
        ({"addresses": ["http://127.0.0.1:1"], "secret": "s"}, "pattern"),
    ],
)
def test_settings_either_launch_servers_or_name_them(settings, complaint):
    with pytest.raises(ValidationError, match=complaint):
        VllmSettings(**settings)
