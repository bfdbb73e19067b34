"""Servers that die, that never start, and whose owner dies; sessions that stay with their server."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tumbler.contracts.inference import WeightUpdate
from tumbler.errors import InferenceError

OWNER = """
import asyncio, sys
from pathlib import Path
from tumbler_backends.inference.vllm.backend import VllmInference
from tumbler_backends.inference.vllm.settings import VllmSettings

async def main():
    backend = VllmInference(VllmSettings(python=sys.argv[1], transfer_folder=sys.argv[3], replicas=2))
    await backend.start(Path(sys.argv[2]))
    print("up", flush=True)
    await asyncio.sleep(300)

asyncio.run(main())
"""


def kill(process):
    process.send_signal(signal.SIGKILL)


async def restarted(backend, count=1):
    while backend.metrics()["restarts"] < count:
        await asyncio.sleep(0.01)


async def test_a_killed_server_fails_its_requests_and_comes_back_with_the_current_weights(
    serve, ask, models, servers_of
):
    backend = await serve(engine={"delay": 0.01})
    await backend.update_weights(WeightUpdate(version=3, folder=models[1]))
    expected = await backend.generate(ask())
    running = asyncio.create_task(backend.generate(ask(max_tokens=500)))
    await asyncio.sleep(0)
    kill(servers_of()[0])
    outcome = (await asyncio.gather(running, return_exceptions=True))[0]
    assert isinstance(outcome, InferenceError) and outcome.infra
    reply = await backend.generate(ask())
    assert (reply.policy_version, reply.logprobs) == (3, expected.logprobs)
    assert backend.metrics()["restarts"] == 1


async def test_weights_sent_while_a_server_is_down_are_what_it_comes_back_with(serve, ask, models, servers_of):
    backend = await serve()
    kill(servers_of()[0])
    await backend.update_weights(WeightUpdate(version=9, folder=models[1]))
    assert (await backend.generate(ask())).policy_version == 9


async def test_a_server_that_dies_of_a_request_is_restarted_as_often_as_it_may_be(serve, ask):
    backend = await serve(engine={"die": 66}, restarts=2)
    for count in (1, 2):
        with pytest.raises(InferenceError, match="gave no answer"):
            await backend.generate(ask([5, 66]))
        await restarted(backend, count)
        assert (await backend.generate(ask())).token_ids
    with pytest.raises(InferenceError, match="gave no answer"):
        await backend.generate(ask([5, 66]))
    with pytest.raises(InferenceError, match=r"(?s)none may be restarted.*exit 7"):
        await backend.generate(ask())


async def test_the_other_server_takes_the_sessions_of_one_that_died(serve, ask, servers_of):
    backend = await serve(replicas=2, restarts=0)
    for index in range(4):
        await backend.generate(ask(session=f"s{index}"))
    kill(servers_of()[0])
    replies = [
        await asyncio.gather(backend.generate(ask(session=f"s{index}")), return_exceptions=True) for index in range(4)
    ]
    again = [await backend.generate(ask(session=f"s{index}")) for index in range(4)]
    assert all(isinstance(reply[0], InferenceError) or reply[0].token_ids for reply in replies)
    assert all(reply.token_ids for reply in again)


async def test_a_session_stays_with_its_server_and_new_ones_spread(serve, stand, ask):
    servers = [await stand(), await stand()]
    settings = {"addresses": [each.settings["addresses"][0] for each in servers], "secret": "a-secret"}
    backend = await serve(**settings)
    for session in ("s", "t", "s", "s", "s"):
        await backend.generate(ask(session=session, max_tokens=1))
    assert sorted([(await server.status())["tokens_sampled"] for server in servers]) == [1, 4]
    await backend.release("s")
    await backend.generate(ask(session="u", max_tokens=1))
    assert sum([(await server.status())["tokens_sampled"] for server in servers]) == 6


async def test_a_server_that_does_not_start_shows_the_end_of_its_log(serve, servers_of):
    with pytest.raises(InferenceError, match=r"(?s)did not start: exit 1.*the end of its log.*no memory for the cache"):
        await serve(engine={"fail": "no memory for the cache"})
    assert servers_of() == []


async def test_an_environment_without_python_is_named_with_its_remedy(serve, tmp_path):
    with pytest.raises(InferenceError, match=r"no Python with vLLM at .*vllm-environment\.sh"):
        await serve(python=tmp_path / "nowhere")


async def test_a_server_that_does_not_start_in_time_is_ended(serve, tmp_path, servers_of):
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\nexec sleep 300\n", encoding="utf-8")
    sleeper.chmod(0o755)
    with pytest.raises(InferenceError, match=r"not up after 0\.2 seconds"):
        await serve(python=sleeper, start_timeout=0.2)
    assert [child for child in psutil.Process().children() if "sleep" in child.name()] == []


def test_servers_of_a_killed_owner_end_and_take_its_files_along(double, models, tmp_path, servers_of):
    transfer = tmp_path / "transfer"
    command = [sys.executable, "-c", OWNER, str(double), str(models[0]), str(transfer)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None and owner.stdout.readline() == "up\n"
    servers = servers_of(owner.pid)
    logs = [Path(file.path) for server in servers for file in server.open_files() if file.path.endswith(".log")]
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert len(servers) == 2
    assert psutil.wait_procs(servers, timeout=60)[1] == []
    assert list(transfer.iterdir()) == []
    assert [log for log in logs if log.exists()] == []


def test_files_of_an_owner_killed_with_its_servers_are_removed_at_the_next_start(models, tmp_path):
    from tumbler_backends.inference.vllm.transfer import Transfer

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f"tumbler-vllm-{dead.pid}-abc"
    left.mkdir()
    (left / "1.safetensors").touch()
    Transfer(models[0], tmp_path).close()
    assert list(tmp_path.iterdir()) == []
