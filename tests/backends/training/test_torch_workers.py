"""What becomes of a run when worker processes of the torch training backend die, hang, or lose their owner."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tumbler.errors import RunError
from tumbler_backends.training.torch.settings import TorchTrainingSettings
from tumbler_backends.training.torch.workers.crew import Crew
from tumbler_backends.training.torch.workers.progress import ProgressFile

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def workers_of(owner: int) -> list[int]:
    """Return the process ids of an owner's workers by rank; none are left over once they are gone."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"tumbler_backends.training.torch.workers.worker" in words and str(owner).encode() in words:
                found[int(words[words.index(str(owner).encode()) - 2])] = int(entry.name)
    return [found[rank] for rank in sorted(found)]


def wait_for(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.fixture
def crew(model_folder):
    made = []

    def make(**settings) -> Crew:
        made.append(Crew(model_folder("llama"), TorchTrainingSettings(processes=2, **settings), seed=0))
        made[-1].begin("sft", optimizer_steps=3)
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_worker_that_is_killed_ends_the_step_and_the_others(crew, mixed_batch):
    working = crew()
    assert working.fit_sft(mixed_batch).optimizer_steps == 1
    _, second = workers_of(os.getpid())
    os.kill(second, signal.SIGKILL)
    with pytest.raises(RunError, match=r"worker process 1 of 2 was killed by signal 9 in fit_sft; .*memory(.|\n)*log:"):
        working.fit_sft(mixed_batch)
    assert workers_of(os.getpid()) == []
    with pytest.raises(RunError, match="the worker processes of the training backend are gone: worker process 1"):
        working.weights()
    working.close()
    working.close()


def test_a_worker_that_hangs_is_named_within_the_patience_and_all_are_ended(crew, mixed_batch):
    working = crew()
    working.fit_sft(mixed_batch)
    working._patience = 15.0
    stopped = workers_of(os.getpid())[0]
    os.kill(stopped, signal.SIGSTOP)
    with pytest.raises(RunError, match=r"has got anything done in fit_sft for 15 seconds, and 0 of 2 seems"):
        working.fit_sft(mixed_batch)
    assert workers_of(os.getpid()) == []


def test_a_model_that_cannot_be_loaded_is_told_by_its_own_error_and_leaves_no_process(tmp_path):
    with pytest.raises(RunError, match="no model to train in"):
        Crew(tmp_path, TorchTrainingSettings(processes=2), seed=0)
    assert workers_of(os.getpid()) == []


def test_workers_and_their_files_are_gone_when_the_owner_is_killed(model_folder):
    script = """
import sys, time
from pathlib import Path
from tumbler_backends.training.torch.settings import TorchTrainingSettings
from tumbler_backends.training.torch.workers.crew import Crew
crew = Crew(Path(sys.argv[1]), TorchTrainingSettings(processes=2), seed=0)
print(crew._folder, flush=True)
time.sleep(600)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(model_folder("llama"))],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip())
        assert folder.is_dir()
        assert len(workers_of(owner.pid)) == 2
        owner.kill()
    wait_for(lambda: not workers_of(owner.pid))
    wait_for(lambda: not folder.exists())


def test_the_workers_that_came_to_the_fewest_meetings_are_suspected(tmp_path):
    progress = ProgressFile(tmp_path / "progress", workers=3)
    worker = ProgressFile(tmp_path / "progress", workers=3)
    before = progress.done()
    for rank in range(3):
        worker.show_alive(rank)
    assert progress.done() == before
    for rank in (0, 2, 2):
        worker.meet(rank)
    assert progress.done() != before
    assert progress.suspects(silence=60) == [1]
    before = progress.done()
    worker.beat(1)
    assert progress.done() != before
    worker.show_alive(0)
    worker.show_alive(1)
    assert progress.suspects(silence=1e-9) == [0, 1, 2]
