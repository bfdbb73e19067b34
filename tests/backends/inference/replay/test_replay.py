"""A run that is replayed from its own trajectories."""

import json
import subprocess
import sys

import pytest

from tumbler.contracts.inference import GenerateRequest, Sampling
from tumbler.errors import InferenceError
from tumbler_backends.inference.replay.records import ReplayInference
from tumbler_backends.inference.replay.settings import ReplaySettings

REGISTRY = """
schema = 1

[envs.short]
use = "trail"
steps = [1, 1]
shell = "twin"

[models.small]
use = "tiny"
layers = 1

[runs.small]
env = "short"
agent = "react"
algorithm = { use = "grpo", tasks_per_step = 2, group_size = 3 }
model = "small"
backends = { inference = "transformers", training = "torch", execution = "local" }
stages = ["rl", "eval"]
limits = { turns = 3 }
sampling = { max_tokens = 12 }
rl = { steps = 2 }
eval = { episodes = 4 }
"""


def run(folder, *options):
    command = [sys.executable, "-m", "tumbler.cli.main", "run", "small", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def spoken(folder):
    """Return the token ids and rewards of every trajectory, in the order of their names."""
    lines = [
        json.loads(line)
        for path in folder.glob("stages/*/trajectories.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return sorted(
        (line["header"]["id"], line["reward"], [segment["token_ids"] for segment in line["segments"]]) for line in lines
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run folder, and that of the registry."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "registry.toml").write_text(REGISTRY, encoding="utf-8")
    finished = run(folder, "--folder", "first")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder / "first"


async def started(trajectories, recorded):
    backend = ReplayInference(ReplaySettings(trajectories=[trajectories]))
    await backend.start(recorded / "model")
    return backend


def test_a_run_with_equal_seeds_is_the_recorded_one_again(recorded):
    inference = f'runs.small.backends.inference={{ use = "replay", trajectories = ["{recorded}"] }}'
    finished = run(recorded.parent, "--folder", "again", "--set", inference)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert len(spoken(recorded)) == 2 * 6 + 4
    assert spoken(recorded.parent / "again") == spoken(recorded)


async def test_what_was_never_asked_is_an_error_that_shows_the_prompt(recorded):
    backend = await started(recorded, recorded)
    request = GenerateRequest(token_ids=tuple(backend.tokenizer.encode("hello")), sampling=Sampling(), seed=0)
    with pytest.raises(InferenceError, match=r"a prompt of \d+ tokens that ends with 'hello'"):
        await backend.generate(request)


async def test_a_folder_without_trajectories_is_named(recorded, tmp_path):
    with pytest.raises(InferenceError, match="neither a file of trajectories nor a run folder"):
        await started(tmp_path, recorded)


async def test_a_damaged_line_is_named(recorded, tmp_path):
    (tmp_path / "broken.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(InferenceError, match=r"broken.jsonl:1 holds no trajectory"):
        await started(tmp_path / "broken.jsonl", recorded)


async def test_trajectories_of_another_tokenizer_are_refused(recorded, write_model, tmp_path):
    write_model(tmp_path / "model")
    backend = ReplayInference(ReplaySettings(trajectories=[recorded]))
    with pytest.raises(InferenceError, match="recorded with the tokenizer"):
        await backend.start(tmp_path / "model")
