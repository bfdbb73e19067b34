"""A run of fakes, carried out by the real run code through the real host and registry."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun, load_registry, resolve_run
from tumbler.run.execute import execute_run
from tumbler.run.folder import RunFolder

REGISTRY = """
schema = 1

[envs.two-step]
use = "fake/two-step"

[runs.small]
env = "two-step"
agent = "react"
algorithm = "fake/count"
model = "fake/none"
backends = { inference = "fake/scripted", training = "fake/counter", execution = "local" }
stages = ["sft", "eval", "rl", "eval"]
limits = { turns = 4 }
sft = { demonstrations = 10, steps = 7, batch_size = 4, checkpoint_every = 3 }
rl = { steps = 5, checkpoint_every = 2 }
eval = { episodes = 12 }
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the fake plugin installed as a distribution, to put on the path."""
    site = tmp_path / "site"
    shutil.copytree(Path(__file__).parent / "plugin", site)
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
    def resolve(*overrides: str) -> ResolvedRun:
        return resolve_run(load_registry(site / "registry.toml", overrides), "small", host)

    return resolve


@pytest.fixture
def interrupt() -> Callable[[ResolvedRun, Path, PluginHost, int], None]:
    """Start a run and cancel it, as a signal does, when so many episodes are written down."""
    return lambda *given: asyncio.run(_interrupted(*given))


async def _interrupted(resolved: ResolvedRun, path: Path, host: PluginHost, episodes: int) -> None:
    """Start the run and cancel it, as a signal does, when so many episodes are written down."""
    import tumbler_fake_run

    folder = RunFolder(path)
    state = folder.create(resolved.to_json())
    task = asyncio.ensure_future(execute_run(resolved, folder, state, host))
    left = episodes

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            task.cancel()

    tumbler_fake_run.LISTENERS.append(count)
    with pytest.raises(asyncio.CancelledError):
        await task
    tumbler_fake_run.LISTENERS.remove(count)
    folder.close()
