"""The real stack, killed again and again: it goes on, loses nothing, uses nothing twice, leaves nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tumbler.run.journal import StageJournal

REGISTRY = """
schema = 1

[envs.trail]
use = "trail"
steps = [1, 2]

[envs.twin]
use = "trail"
steps = [1, 2]
shell = "twin"

[models.tiny]
use = "tiny"
layers = 1
width = 32
heads = 2

[backends.box]
use = "bubblewrap"
root = "{root}"

[runs.killed]
env = "trail"
agent = "react"
algorithm = {{ use = "ipa", tasks_per_step = 4, group_size = 4 }}
model = "tiny"
backends = {{ sandbox = "box", inference = "transformers", training = "torch", execution = "local" }}
stages = ["sft", "eval", "rl", "eval"]
limits = {{ turns = 4 }}
sampling = {{ max_tokens = 8 }}
sft = {{ env = "twin", demonstrations = 32, steps = 9, batch_size = 8, checkpoint_every = 4 }}
rl = {{ steps = 7, checkpoint_every = 3, collapse_patience = 0 }}
eval = {{ episodes = 24 }}
"""
KILLS = 5


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    path = tmp_path / "registry.toml"
    path.write_text(REGISTRY.format(root=tmp_path / "sandboxes"))
    return path


def tumbler(*arguments: str, cwd: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", "import sys; from tumbler.cli.main import main; sys.exit(main())", *arguments]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def written(folder: Path) -> int:
    """Return how many episodes and steps the run has written down."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("stages/*/*.jsonl"))


def kill_at_a_random_moment(process: "subprocess.Popen[bytes]", folder: Path, chance: random.Random) -> bool:
    """Kill the run a moment after it has got on; return whether it was still running."""
    before, deadline = written(folder), time.monotonic() + 120
    while process.poll() is None and written(folder) == before:
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 1.5))
    running = process.poll() is None
    if running:
        os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    return running


def finish(process: "subprocess.Popen[bytes]") -> None:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode(errors="replace")[-3000:]


def processes_of(folder: Path) -> Iterator[psutil.Process]:
    """Return processes that have the folder in their command line."""
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in process.info["cmdline"] or ()):
            yield process


def results(folder: Path) -> Any:
    return json.loads((folder / "results.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_killed_at_five_random_moments_loses_nothing_and_leaves_nothing(registry: Path, tmp_path: Path) -> None:
    chance = random.Random(20)
    folder = tmp_path / "run"
    process = tumbler("run", "killed", "--folder", str(folder), cwd=tmp_path)
    killed = 0
    for _ in range(KILLS):
        killed += kill_at_a_random_moment(process, folder, chance)
        process = tumbler("run", "--resume", str(folder), cwd=tmp_path)
    finish(process)
    assert killed == KILLS, "the run ended before it was killed often enough; make it longer"

    assert results(folder)["optimizer_steps"] == expected_steps(folder)
    for label in ("1-sft", "2-eval", "3-rl", "4-eval"):
        lines = (folder / f"stages/{label}/trajectories.jsonl").read_text().splitlines()
        ids = [json.loads(line)["header"]["id"] for line in lines]
        assert max(Counter(ids).values()) == 1, f"{label}: a finished episode was run again"
    journal = StageJournal(folder / "stages/3-rl")
    used = Counter(each for step in journal.used() for each in step.trajectories)
    judged = {each.id for each in journal.known().values() if each.judged and each.header.source == "policy"}
    assert set(used) == judged
    assert set(used.values()) == {1}

    assert not list(processes_of(tmp_path))
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert not list((tmp_path / "sandboxes").iterdir())
    assert [path.name for path in folder.glob(".*")] == [".lock"]


def expected_steps(folder: Path) -> int:
    """Return the optimizer steps that the stages' journals say were completed."""
    return sum(
        step.optimizer_steps for label in ("1-sft", "3-rl") for step in StageJournal(folder / "stages" / label).used()
    )
