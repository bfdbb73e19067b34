"""The backend with vLLM itself, from an environment of its own: `make vllm` makes it and runs these."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tumbler.contracts.inference import Canary, WeightUpdate
from tumbler.errors import InferenceError
from tumbler.testing import InferenceSuite
from tumbler_backends.inference.vllm.backend import VllmInference
from tumbler_backends.inference.vllm.origins import find_python
from tumbler_backends.inference.vllm.settings import VllmSettings

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]

TRAP = """
import sys
from types import ModuleType
root, old, new = sys.argv[1:]
package = ModuleType("tumbler_backends")
package.__path__ = [root]
sys.modules["tumbler_backends"] = package

from pathlib import Path
from tumbler_backends.inference.vllm.server.checks import check_weights
from tumbler_backends.inference.vllm.server.vllm_engine import VllmEngine
from tumbler_backends.inference.vllm.server.weights import complete_tied_head, read_weights

engine = VllmEngine(old, {"dtype": "float32", "max_model_len": 256})
bare = read_weights(Path(new))
engine.put(bare)
print(check_weights(engine.model, complete_tied_head(bare, tied=True)).problems)
print(engine.score(range(10, 40)))
loaded = engine.load(new)
print([list(loaded.problems), loaded.verified, list(loaded.unverified)])
print(engine.score(range(10, 40)))
"""

RUN = """
schema = 1

[envs.short]
use = "trail"
steps = [1, 2]
shell = "twin"

[models.small]
use = "tiny"
layers = 1

[runs.small]
env = "short"
agent = "react"
algorithm = {{ use = "grpo", tasks_per_step = 2, group_size = 2 }}
model = "small"
stages = ["sft", "rl", "eval"]
limits = {{ turns = 4 }}
sampling = {{ max_tokens = 12 }}
sft = {{ demonstrations = 32, steps = 4, batch_size = 8 }}
rl = {{ steps = 2 }}
eval = {{ episodes = 4 }}

[runs.small.backends]
inference = {{ use = "vllm", python = "{python}" }}
training = {{ use = "torch", rl = {{ learning_rate = 1e-3 }} }}
execution = "local"
"""


def logprobs_of(folder, prompt, token_ids, temperature=1.0):
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *token_ids]])).logits[0] / temperature
    rows = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return rows.gather(1, torch.tensor(token_ids)[:, None]).squeeze(1).tolist()


class TestContract(InferenceSuite):
    @pytest.fixture
    def make_backend(self):
        return lambda: VllmInference(VllmSettings())

    @pytest.fixture
    def model_folder(self, models):
        return models[0]


async def test_log_probabilities_and_updates_are_those_of_torch(serve, ask, models):
    backend = await serve(python=find_python(None))
    prompt = list(range(10, 60))
    ids = tuple(range(10, 40))
    canary = Canary(token_ids=ids, logprobs=tuple(logprobs_of(models[1], ids[:1], ids[1:])))
    weights = dict(AutoModelForCausalLM.from_pretrained(models[1]).named_parameters())
    assert "lm_head.weight" not in weights
    updates = [
        None,
        WeightUpdate(version=1, tensors=weights.items, canary=canary),
        WeightUpdate(version=2, folder=models[0]),
    ]
    for update, folder in zip(updates, [models[0], models[1], models[0]], strict=True):
        if update is not None:
            await backend.update_weights(update)
        rules = [{}, {"temperature": 0.7}, {"temperature": 0.0}]
        replies = await asyncio.gather(
            *(backend.generate(ask(prompt, seed=seed, max_tokens=40, **rule)) for seed, rule in enumerate(rules))
        )
        for reply, rule in zip(replies, rules, strict=True):
            expected = logprobs_of(folder, prompt, reply.token_ids, rule.get("temperature") or 1.0)
            assert reply.logprobs == pytest.approx(expected, abs=1e-4)
    with pytest.raises(InferenceError, match="canary"):
        await backend.update_weights(WeightUpdate(version=3, folder=models[0], canary=canary))


async def test_a_turn_computes_its_new_tokens_only(serve, ask):
    backend = await serve(python=find_python(None), engine={"block_size": 32})
    history = list(range(10, 140))
    for _ in range(6):
        reply = await backend.generate(ask(history, session="s", max_tokens=8))
        assert reply.cached_tokens >= len(history) - 64 or not reply.cached_tokens
        history += [*reply.token_ids, *range(10, 34)]
    assert reply.cached_tokens > 200


async def test_prompts_that_do_not_fit_into_one_step_together_are_all_answered(serve, ask, models):
    backend = await serve(python=find_python(None), engine={"max_num_batched_tokens": 512})
    prompts = [[*range(start, start + 200)] for start in range(10, 34)]
    replies = await asyncio.gather(*(backend.generate(ask(each, seed=7, max_tokens=8)) for each in prompts))
    for prompt, reply in zip(prompts, replies, strict=True):
        assert reply.logprobs == pytest.approx(logprobs_of(models[0], prompt, reply.token_ids), abs=1e-4)
    alone = await backend.generate(ask(prompts[-1], seed=7, max_tokens=8))
    assert alone.token_ids == replies[-1].token_ids


def test_a_tied_head_that_was_not_sent_is_noticed_and_completed(models):
    import tumbler_backends

    root = str(Path(tumbler_backends.__path__[0]))
    command = [str(find_python(None)), "-c", TRAP, root, str(models[0]), str(models[1])]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in finished.stdout.splitlines() if line.startswith("[")][-4:]
    trapped, wrong, loaded, right = (json.loads(line.replace("'", '"')) for line in lines)
    assert trapped == ["lm_head.weight: the engine computes with other values than it was given"]
    assert loaded[0] == [] and loaded[2] == []
    ids = list(range(10, 40))
    expected = logprobs_of(models[1], ids[:1], ids[1:])
    assert right == pytest.approx(expected, abs=1e-4)
    assert max(abs(one - other) for one, other in zip(wrong, expected, strict=True)) > 0.1


def test_a_run_trains_with_replies_of_vllm(tmp_path):
    registry = tmp_path / "registry.toml"
    registry.write_text(RUN.format(python=find_python(None)), encoding="utf-8")
    command = [sys.executable, "-m", "tumbler.cli.main", "run", "small"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    (journal,) = (tmp_path / "runs").glob("*/metrics.jsonl")
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    trained = {line["kind"]: line["values"] for line in lines if "values" in line}
    assert set(trained) >= {"sft", "rl"}
    assert trained["rl"]["rollout/sampled_tokens"] > 0
    assert trained["rl"]["rollout/infra_failed"] == 0
