"""Plays one run on the virtual clock and measures it; knows no table."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from random import Random
from statistics import fmean

from experiments.scale import plugin
from experiments.scale.clock import run_virtually
from experiments.scale.world import TRACES

from tumbler.plugins import PluginHost
from tumbler.registry import load_registry, resolve_run
from tumbler.run.execute import execute_run
from tumbler.run.folder import RunFolder

__all__ = ["ARMS", "Cluster", "Simulated", "simulate"]

ARMS: Mapping[str, Sequence[str]] = {
    "synchronous": ("max_staleness=0",),
    "synchronous, 2 in 10 cut": ("max_staleness=0", "redundant_rollouts=2"),
    "staleness 1, own wave": ("max_staleness=1",),
    "staleness 2, own wave": ("max_staleness=2",),
    "staleness 1, by arrival": ("max_staleness=1", "order='arrival'"),
    "staleness 2, by arrival": ("max_staleness=2", "order='arrival'"),
    "staleness 2, by arrival, 2 in 10 cut": ("max_staleness=2", "order='arrival'", "redundant_rollouts=2"),
}
"""Policy of the scheduler → its settings of the stage `rl`."""

_ENTRY = EntryPoint(name="simulation", value="experiments.scale.plugin", group="tumbler.v1")
_EPISODES = 20_000
_REGISTRY = Path(__file__).parent / "registry.toml"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What is simulated."""

    trace: str
    environments: int = 10_000
    groups: int = 500
    steps: int = 16
    seconds_per_turn: float = 0.0025
    """That the trainer takes for a turn: with 500 groups of eight a step takes some 80 s."""


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What came of one arm."""

    arm: str
    cluster: Cluster
    seconds: float
    """In the simulated world."""
    bound: float
    """The least that any scheduler takes: the trainer's work alone, next to which episodes need half as long. The wait
    for a first batch is not in it."""
    staleness: float
    stale_share: float
    """Share of tokens that were masked for their age."""
    turns: float
    """Mean over the trained episodes."""
    unbiased_turns: float
    """Mean over all episodes that the trace gives."""

    @property
    def steps_per_hour(self) -> float:
        """Return the training steps in an hour of the simulated world."""
        return 3600 * self.cluster.steps / self.seconds

    @property
    def efficiency(self) -> float:
        """Return the bound as a share of the time."""
        return self.bound / self.seconds


def simulate(arm: str, cluster: Cluster, seed: int) -> Simulated:
    """Play one arm."""
    logging.getLogger("tumbler").setLevel(logging.ERROR)
    host = PluginHost.load(allow=None, entry_points=[_ENTRY, *_react()])
    settings = [
        f"runs.cluster.seed={seed}",
        f"runs.cluster.rl.steps={cluster.steps}",
        *(f"runs.cluster.rl.{each}" for each in ARMS[arm]),
        f"runs.cluster.algorithm={{ use = 'simulation/groups', groups = {cluster.groups} }}",
        f"runs.cluster.backends.inference={{ use = 'simulation/engine', slots = {cluster.environments} }}",
        "runs.cluster.backends.training="
        f"{{ use = 'simulation/trainer', seconds_per_turn = {cluster.seconds_per_turn} }}",
        "runs.cluster.backends.execution="
        f"{{ use = 'simulation/episodes', capacity = {cluster.environments}, trace = {cluster.trace!r} }}",
    ]
    plugin.WORLD.clear()
    plugin.STEPS.clear()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        resolved = resolve_run(load_registry(_REGISTRY, settings), "cluster", host)
        run = RunFolder(Path(folder) / "run")
        _, seconds = run_virtually(execute_run(resolved, run, run.create(resolved.to_json()), host))
        run.close()
    return Simulated(
        arm=arm,
        cluster=cluster,
        seconds=seconds,
        bound=plugin.WORLD.trained,
        staleness=fmean(step.values.get("rollout/staleness", 0.0) for step in plugin.STEPS),
        stale_share=fmean(step.values.get("rollout/stale_share", 0.0) for step in plugin.STEPS),
        turns=fmean(plugin.WORLD.lengths),
        unbiased_turns=_mean_turns(cluster),
    )


def _mean_turns(cluster: Cluster) -> float:
    """Return the mean turns of an episode that does not fail."""
    random, trace = Random(0), TRACES[cluster.trace]
    episodes = (trace.episode(random) for _ in range(_EPISODES))
    return fmean(len(turns) for turns, failed in episodes if not failed)


def _react() -> list[EntryPoint]:
    """Return the plugin with the agent, without all others that are installed."""
    return [EntryPoint(name="react", value="tumbler_agents.react.plugin", group="tumbler.v1")]
