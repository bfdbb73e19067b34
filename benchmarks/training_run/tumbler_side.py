"""Tumbler's side: an ordinary run from a registry, its stage `rl` alone. A process of its own, given a job."""

import json
import sys
import tempfile
from importlib.metadata import EntryPoint
from pathlib import Path

from contender import Job, read_job
from waiting_plugin import told
from world import SYSTEM

from tumbler.markers import ENTRY_POINT_GROUP
from tumbler.plugins import PluginHost
from tumbler.plugins.discovery import installed_entry_points
from tumbler.registry import load_registry, resolve_run
from tumbler.run.command import start_run

__all__ = ["registry"]


def registry(job: Job) -> str:
    """Return the registry of the run, as a person would write it."""
    shape = job.shape
    # What is sampled in steps after the last one measured keeps the ones before it from having less to do.
    steps = job.warmup + job.steps + job.staleness
    order = "arrival" if job.staleness else "plan"
    return f"""
schema = 1

[envs.waiting]
use = "waiting/waiting"
latency = "{job.latency}"
seed = {job.seed}
turns = {shape.turns}
answer = {shape.answer}
instruction = {shape.instruction}

[agents.react]
use = "react"
system_prompt = {json.dumps(SYSTEM)}
observation_role = "tool"

[algorithms.grpo]
use = "waiting/watched-grpo"
tasks_per_step = {shape.tasks}
group_size = {shape.group}

[models.given]
use = "folder"
path = "{job.model}"

[backends.torch]
use = "torch"
micro_batch_tokens = {job.micro_batch}
snapshots = 0
rl = {{ learning_rate = {job.learning_rate}, betas = [0.9, 0.95], max_grad_norm = 1.0 }}

[runs.bench]
env = "waiting"
agent = "react"
algorithm = "grpo"
model = "given"
backends = {{ inference = "transformers", training = "torch", execution = {{ use = "local", capacity = 1024 }} }}
stages = ["rl"]
seed = {job.seed}
limits = {{ turns = {shape.turns}, seconds = 600 }}
sampling = {{ max_tokens = {shape.sampled} }}
rl = {{ steps = {steps}, checkpoint_every = 0, max_staleness = {job.staleness}, order = "{order}" }}
"""


def main() -> None:
    """Train and tell."""
    job, answer = read_job(sys.argv[1])
    host = PluginHost.load(
        entry_points=[*installed_entry_points(), EntryPoint("waiting", "waiting_plugin", ENTRY_POINT_GROUP)]
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "registry.toml"
        path.write_text(registry(job))
        start_run(resolve_run(load_registry(path), "bench", host), Path(folder) / "run", host)
    answer(told)


if __name__ == "__main__":
    main()
