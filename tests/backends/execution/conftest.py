"""A run of fakes, and one of a real model, that only differ in where they work."""

import shutil
from collections import ChainMap
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.backends.execution.recipes import Diary, Rolled

from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun, load_registry, resolve_run
from tumbler.run.command import start_run
from tumbler.run.journal import StageJournal

REGISTRY = """
schema = 1

[envs.two-step]
use = "fake/two-step"

[backends.workers]
use = "local"
workers = 2

[runs.small]
env = "two-step"
agent = "react"
algorithm = "fake/count"
model = "fake/none"
backends = { inference = "fake/scripted", training = "fake/counter", execution = "local" }
stages = ["sft", "rl", "eval"]
limits = { turns = 4 }
sft = { demonstrations = 6, steps = 2, batch_size = 4 }
rl = { steps = 3 }
eval = { episodes = 6 }

[runs.real]
env = "two-step"
agent = "react"
algorithm = { use = "grpo", tasks_per_step = 2, group_size = 4 }
model = { use = "tiny", layers = 1, width = 32 }
backends = { inference = "transformers", training = "torch", execution = "local" }
stages = ["sft", "rl"]
limits = { turns = 3 }
sampling = { max_tokens = 6 }
sft = { demonstrations = 8, steps = 2, batch_size = 4 }
rl = { steps = 2 }
"""


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(path=tmp_path / "diary")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the plugin of fakes installed as a distribution, to put on the path."""
    site = tmp_path / "site"
    shutil.copytree(Path(__file__).parents[2] / "core" / "run" / "plugin", site)
    info = site / "tumbler_fake_run-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tumbler-fake-run\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tumbler.v1]\nfake = tumbler_fake_run\n")
    (site / "registry.toml").write_text(REGISTRY)
    return site


@pytest.fixture
def host(site: Path, monkeypatch: pytest.MonkeyPatch) -> PluginHost:
    monkeypatch.syspath_prepend(str(site))
    return PluginHost.load()


@pytest.fixture
def resolve(site: Path, host: PluginHost) -> Callable[..., ResolvedRun]:
    def resolve(run: str, *overrides: str) -> ResolvedRun:
        return resolve_run(load_registry(site / "registry.toml", overrides), run, host)

    return resolve


@pytest.fixture
def roll(resolve: Callable[..., ResolvedRun], host: PluginHost, tmp_path: Path) -> Callable[..., Rolled]:
    """Carry a run out and return what came of it."""

    def roll(run: str, name: str, *overrides: str) -> Rolled:
        folder = tmp_path / name
        results = start_run(resolve(run, *overrides), folder, host)
        found = [StageJournal(stage).known() for stage in sorted((folder / "stages").iterdir())]
        return Rolled(results={**results, "seconds": 0}, trajectories=dict(ChainMap(*found)))

    return roll
