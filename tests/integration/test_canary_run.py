"""Whole runs whose trainer sends canaries: weights that arrive are served; a tensor lost on the way ends the run."""

import asyncio
import json

import pytest

from tumbler.errors import InferenceError
from tumbler.plugins import PluginHost
from tumbler.registry import load_registry, resolve_run
from tumbler.run.execute import execute_run
from tumbler.run.folder import RunFolder

REGISTRY = """
schema = 1

[envs.short]
use = "trail"
steps = [1, 2]
shell = "twin"

[backends.trainer]
use = "torch"
sft = { learning_rate = 3e-3 }
LORA

# So small a model solves no task; what tells its rollouts apart is the penalty on their length.
[algorithms.group]
use = "grpo"
tasks_per_step = 2
length_limit = 100
length_buffer = 99

[backends.engine]
use = "ENGINE"
OPTIONS

[runs.small]
env = "short"
agent = "react"
algorithm = "group"
model = { use = "tiny", layers = 1, width = 32, heads = 2 }
backends = { inference = "engine", training = "trainer", execution = "local" }
stages = ["sft", "eval", "rl"]
limits = { turns = 3 }
sampling = { max_tokens = 32 }
sft = { demonstrations = 16, steps = 4, batch_size = 4 }
rl = { steps = STEPS, collapse_patience = 0 }
eval = { episodes = 4 }
"""

CARELESS = '''
"""An engine that loses a tensor of each update on the way."""

from dataclasses import replace

from tumbler import hookimpl
from tumbler.specs import BackendSpec
from tumbler_backends.inference.transformers.backend import TransformersInference
from tumbler_backends.inference.transformers.settings import TransformersSettings


class Careless(TransformersInference):
    async def update_weights(self, update):
        kept = {name: tensor for name, tensor in update.tensors() if "layers.0.mlp.down_proj" not in name}
        await super().update_weights(replace(update, tensors=kept.items, partial=True))


@hookimpl
def tumbler_backends():
    return [
        BackendSpec(
            name="engine",
            summary="Loses a tensor.",
            load=lambda: Careless,
            config=lambda: TransformersSettings,
            roles=("inference",),
        )
    ]
'''


@pytest.fixture
def host(tmp_path, monkeypatch) -> PluginHost:
    """The host with the careless engine installed as a distribution."""
    information = tmp_path / "site" / "tumbler_careless-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: tumbler-careless\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[tumbler.v1]\ncareless = tumbler_careless\n")
    (tmp_path / "site" / "tumbler_careless.py").write_text(CARELESS)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return PluginHost.load()


def run(host, tmp_path, *, engine="transformers", lora="", options="", steps="2"):
    path = tmp_path / "registry.toml"
    text = REGISTRY.replace("ENGINE", engine).replace("LORA", lora).replace("OPTIONS", options).replace("STEPS", steps)
    path.write_text(text)
    resolved = resolve_run(load_registry(path), "small", host)
    folder = RunFolder(tmp_path / "run")
    try:
        return asyncio.run(execute_run(resolved, folder, folder.create(resolved.to_json()), host))
    finally:
        folder.close()


@pytest.mark.parametrize("lora", ["", "lora = { rank = 4, dropout = 0.2 }"])
def test_a_run_whose_weights_arrive_ends_well(lora, host, tmp_path):
    results = run(host, tmp_path, lora=lora)
    assert [each["kind"] for each in results["stages"]] == ["sft", "eval", "rl"]


@pytest.mark.parametrize("on_update", ["abort", "keep"])
def test_a_run_that_goes_ahead_ends_well_and_its_chunks_tell_their_versions(on_update, host, tmp_path):
    options = f'on_update = "{on_update}"\nmax_batch = 4'
    results = run(host, tmp_path, options=options, steps='6, max_staleness = 2, order = "arrival"')
    assert [each["kind"] for each in results["stages"]] == ["sft", "eval", "rl"]
    lines = (tmp_path / "run/stages/3-rl/trajectories.jsonl").read_text().splitlines()
    chunks = [chunk for line in lines for chunk in json.loads(line)["chunks"] if chunk["sampled"]]
    versions = {chunk["policy_version"] for chunk in chunks}
    assert {4, 5, 6} <= versions <= set(range(4, 11))
    assert all(len(chunk["behaviour_logprobs"]) == chunk["end"] - chunk["start"] for chunk in chunks)


@pytest.mark.parametrize("lora", ["", 'lora = { rank = 4, alpha = 64, target_modules = ["q_proj", "down_proj"] }'])
def test_a_run_whose_engine_has_a_stale_tensor_ends_before_anything_is_sampled_with_it(lora, host, tmp_path):
    with pytest.raises(InferenceError, match=r"does not serve the weights of version 4 that it was sent.*nats off"):
        run(host, tmp_path, engine="careless/engine", lora=lora)
    assert [file.parent.name for file in (tmp_path / "run").rglob("trajectories.jsonl")] == ["1-sft"]
