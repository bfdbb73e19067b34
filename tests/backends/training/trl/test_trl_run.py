"""A whole run with the trl training backend, from the registry of its page, only shorter."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from tumbler.plugins import PluginHost
from tumbler.registry import load_registry, resolve_run
from tumbler.run.execute import execute_run
from tumbler.run.folder import RunFolder
from tumbler_backends.training.trl import plugin

PAGE = Path(__file__).parents[4] / "docs/trl.md"
SHORTER = (
    # So small a model solves no task; what tells its rollouts apart is the penalty on their length.
    "algorithms.group.length_limit=100",
    "algorithms.group.length_buffer=99",
    "runs.trl.sampling.max_tokens=32",
    "algorithms.group.tasks_per_step=2",
    'runs.trl.model={ use = "tiny", layers = 1, width = 32, heads = 2 }',
    "runs.trl.sft={ demonstrations = 16, steps = 4, batch_size = 4, checkpoint_every = 2 }",
    "runs.trl.rl={ steps = 3, checkpoint_every = 2, collapse_patience = 0 }",
    "runs.trl.eval={ episodes = 4 }",
    "runs.trl.limits.turns=3",
)


@pytest.fixture
def registry(tmp_path) -> Path:
    (source,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    path = tmp_path / "registry.toml"
    path.write_text(source)
    return path


def test_the_run_of_the_page_ends(registry, tmp_path):
    host = PluginHost.load(allow=["tumbler"])
    resolved = resolve_run(load_registry(registry, SHORTER), "trl", host)
    folder = RunFolder(tmp_path / "run")
    state = folder.create(resolved.to_json())
    results = asyncio.run(execute_run(resolved, folder, state, host))
    folder.close()
    assert [each["kind"] for each in results["stages"]] == ["sft", "eval", "rl", "eval"]
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    for kind, steps, metric in (("sft", 4, "trl/mean_token_accuracy"), ("rl", 3, "trl/clip_ratio/region_mean")):
        reports = [line["values"] for line in lines if line.get("kind") == kind and "values" in line]
        assert len(reports) == steps
        # A step whose groups have no spread of rewards has no gradient, and is not taken.
        moved = [each for each in reports if each.get("train/gradient_norm", 0) > 0]
        assert moved and all(metric in each for each in moved)


def test_the_plugin_offers_one_training_backend():
    (spec,) = plugin.tumbler_backends()
    assert (spec.name, spec.roles, spec.extra) == ("trl", ("training",), "trl")
    assert spec.load().__name__ == "TRLTraining"
    assert issubclass(spec.config(), object)
