"""A served model as the policy of evaluations: the contract, the wire, and what it refuses."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, STDOUT
from typing import ClassVar

import pytest
from tests.backends.inference.openai.token_server import TokenServer

from tumbler.contracts.inference import GenerateRequest, Sampling, WeightUpdate
from tumbler.errors import ContextOverflowError, InferenceError
from tumbler.testing import InferenceSuite
from tumbler_backends.models.settings import TinySettings
from tumbler_backends.models.tiny import TinyModel


@pytest.fixture
def ask():
    def request(*ids, seed=0, **sampling):
        return GenerateRequest(token_ids=ids or (7, 8, 9), sampling=Sampling(**{"max_tokens": 6} | sampling), seed=seed)

    return request


class TestContract(InferenceSuite):
    known_failures: ClassVar = {
        "test_new_weights_are_served_under_their_version": "a served model's weights are its server's own"
    }

    @pytest.fixture
    def make_backend(self, make_served):
        return make_served

    @pytest.fixture
    def model_folder(self, folder):
        return folder


async def test_replies_are_the_tokens_of_the_server_with_their_log_probabilities(asking, server, serve, folder, ask):
    backend, direct = asking(), await serve(folder)
    await backend.start(folder)
    for request in (ask(seed=3), ask(1, 2, 3, seed=4, top_p=0.9, top_k=5), ask(temperature=0.0)):
        reply, expected = await backend.generate(request), await direct.generate(request)
        assert (reply.token_ids, reply.finish_reason) == (expected.token_ids, expected.finish_reason)
        assert reply.logprobs == pytest.approx(expected.logprobs, abs=1e-6)
        assert (reply.policy_version, reply.cached_tokens) == (0, 3)
    stops = {backend.tokenizer.end_of_turn, *backend.tokenizer.end_of_text}
    assert all(set(body["stop_token_ids"]) == stops for body in server.bodies)
    assert backend.metrics()["tokens_cached"] == 9


async def test_servers_that_give_ids_in_the_place_of_words_are_understood(asking, server, folder, ask):
    server.change = {"token_ids": None, "prompt_token_ids": None}
    backend = asking()
    await backend.start(folder)
    reply = await backend.generate(ask(seed=1))
    assert len(reply.token_ids) == len(reply.logprobs) > 0


@pytest.mark.parametrize(
    "change",
    [
        {"token_ids": None, "logprobs": None},
        {"logprobs": {"tokens": ["a"], "token_logprobs": [-1.0]}, "token_ids": None},
        {"logprobs": None},
    ],
)
async def test_a_server_that_knows_no_token_ids_is_refused_at_once(asking, server, folder, change):
    server.change = change
    with pytest.raises(InferenceError, match=r"return_token_ids.*gateway"):
        await asking().start(folder)


async def test_a_server_that_reads_or_writes_other_tokens_is_refused_at_once(asking, server, folder):
    server.change = {"prompt_token_ids": [1]}
    with pytest.raises(InferenceError, match="read 1 token ids"):
        await asking().start(folder)
    server.change = {"text": "another vocabulary", "token_ids": [300], "logprobs": {"token_logprobs": [-1.0]}}
    with pytest.raises(InferenceError, match="tokenizer is not that of the run's model folder"):
        await asking().start(folder)


async def test_what_cannot_be_asked_for_says_why(asking, folder, ask):
    with pytest.raises(InferenceError, match=r"404.*no model other"):
        await asking(model="other").start(folder)
    backend = asking(context_length=20)
    with pytest.raises(InferenceError, match="not started"):
        await backend.generate(ask())
    await backend.start(folder)
    with pytest.raises(ContextOverflowError, match="20: no room"):
        await backend.generate(ask(*range(1, 22)))
    assert len((await backend.generate(ask(*range(1, 20)))).token_ids) == 1
    with pytest.raises(InferenceError, match=r'stages = \["eval"\]'):
        await backend.update_weights(WeightUpdate(version=1, folder=folder))


RUN = """
schema = 1

[envs.short]
use = "trail"
steps = [1, 2]
shell = "twin"

[runs.served]
env = "short"
agent = "react"
model = {{ use = "folder", path = "{folder}" }}
backends = {{ inference = {{ use = "openai", base_url = "{url}", model = "small" }}, execution = "local" }}
stages = ["eval"]
limits = {{ turns = 2 }}
sampling = {{ max_tokens = 8 }}
eval = {{ episodes = 4 }}
"""


@pytest.fixture
def long_folder(tmp_path):
    """A model whose context has room for an episode."""
    target = tmp_path / "long"
    target.mkdir()
    settings = TinySettings(layers=1, width=64, heads=2, context=2048, vocabulary=512)
    return TinyModel(settings).prepare(target, texts=["Say a word."], seed=0)


async def test_a_run_evaluates_a_served_model(long_folder, tmp_path):
    with TokenServer(long_folder) as server:
        await evaluate(server, long_folder, tmp_path)


async def evaluate(server, folder, tmp_path):
    (tmp_path / "registry.toml").write_text(RUN.format(folder=folder, url=server.url), encoding="utf-8")
    command = [sys.executable, "-m", "tumbler.cli.main", "run", "served"]
    process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=PIPE, stderr=STDOUT)
    said, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, said.decode()
    (results,) = tmp_path.glob("runs/*/results.json")
    (stage,) = json.loads(results.read_text())["stages"]
    assert stage["envs"]["short"]["episodes"] == 4
    assert len(server.bodies) > 4
