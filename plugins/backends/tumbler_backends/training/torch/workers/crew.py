"""Worker processes that train together, seen by their owner: what a trainer is, with its calls carried out by all."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

import torch

from tumbler.contracts.algorithm import Algorithm
from tumbler.contracts.batch import CreditedTrajectory
from tumbler.contracts.inference import WeightUpdate
from tumbler.contracts.training import Phase, StepReport
from tumbler.errors import RunError
from tumbler.trajectory.record import Trajectory
from tumbler_backends.training.torch.settings import TorchTrainingSettings
from tumbler_backends.training.torch.workers.messages import Answer, Call, read_weights, write_call
from tumbler_backends.training.torch.workers.progress import ProgressFile

__all__ = ["Crew"]

SHARED_MEMORY = Path("/dev/shm")
LOOKS = 0.5
"""Seconds between two looks at the workers' progress."""
FAREWELL = 10.0
"""Seconds that workers get to answer once one has failed, and to end when they are told to."""
SILENCE = 5.0
"""Seconds after which a worker that does not even show itself alive is taken to be stopped."""
TAIL = 4000
"""Bytes of a worker's log in an error."""


@dataclass(frozen=True, kw_only=True)
class _Worker:
    rank: int
    process: "subprocess.Popen[bytes]"
    pipe: Connection
    log: Path


class Crew:
    """Owns `settings.processes` workers, each with a trainer of its own.

    A call ends with an error as soon as a worker has died, or when none has got anything done for as long as the
    settings say; then all workers are ended, and so is the crew. An error that all workers tell of ends the call alone.
    """

    def __init__(self, model: Path, settings: TorchTrainingSettings, *, seed: int) -> None:
        _check_devices(settings.processes)
        self.version = 0
        self._patience = settings.worker_patience
        self._folder = Path(tempfile.mkdtemp(prefix="tumbler-", dir=SHARED_MEMORY if _has_room(model) else None))
        self._progress = ProgressFile(self._folder / "progress", workers=settings.processes)
        self._ended = ""
        self._workers: list[_Worker] = []
        try:
            for rank in range(settings.processes):
                self._workers.append(_start(rank, settings.processes, self._folder))
            self._call("start", model.absolute(), settings, seed=seed)
        except BaseException:
            self.close()
            raise

    def begin(self, phase: Phase, *, optimizer_steps: int) -> None:
        """Begin a phase with a fresh optimizer."""
        self._call("begin", phase, optimizer_steps=optimizer_steps)

    def fit_sft(self, batch: Sequence[Trajectory]) -> StepReport:
        """Take one supervised optimizer step."""
        return cast("StepReport", self._call("fit_sft", list(batch)))

    def step(self, batch: Sequence[CreditedTrajectory], algorithm: Algorithm) -> StepReport:
        """Take the algorithm's optimizer steps."""
        return cast("StepReport", self._call("step", list(batch), algorithm))

    def weights(self) -> WeightUpdate:
        """Return a copy of the weights."""
        return read_weights(self._folder / "weights", cast("WeightUpdate", self._call("weights")))

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        self._call("save", folder.absolute())

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint."""
        self._call("load", folder.absolute())

    def close(self) -> None:
        """End all workers; safe to call twice."""
        for worker in self._workers:
            if not self._ended:
                _tell(worker, None)
        deadline = time.monotonic() + (0 if self._ended else FAREWELL)
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.pipe.close()
        self._workers = []
        self._ended = self._ended or "it was closed"
        self._progress.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _call(self, method: str, *arguments: object, **named: object) -> Any:  # noqa: ANN401 - whatever the method gives
        """Have every worker call a method, and return what the leader's returned."""
        if self._ended:
            raise RunError(f"the worker processes of the training backend are gone: {self._ended}")
        write_call(self._folder / "call", Call(method=method, arguments=arguments, named=named))
        for worker in self._workers:
            _tell(worker, "call")
        answers = self._await_answers(method)
        self.version = max(answer.version for answer in answers.values())
        for rank, answer in sorted(answers.items()):
            if answer.error is not None:
                if len(answers) < len(self._workers):
                    self._end(str(answer.error))
                answer.error.add_note(f"In worker process {rank} of {len(self._workers)}, in {method}.")
                raise answer.error
        return answers[0].result

    def _await_answers(self, method: str) -> dict[int, Answer]:
        """Return the workers' answers; not all of them if one failed and others are still waiting for it."""
        answers: dict[int, Answer] = {}
        done, since = self._progress.done(), time.monotonic()
        while len(answers) < len(self._workers):
            waiting = {worker.pipe: worker for worker in self._workers if worker.rank not in answers}
            for pipe in wait(list(waiting), timeout=LOOKS):
                worker = waiting[cast("Connection", pipe)]
                answers[worker.rank] = self._receive(worker, method)
                since = time.monotonic()
            now = self._progress.done()
            if now != done:
                done, since = now, time.monotonic()
            idle = time.monotonic() - since
            if any(answer.error for answer in answers.values()) and idle > min(FAREWELL, self._patience):
                break
            if idle > self._patience:
                self._give_up(method)
        return answers

    def _receive(self, worker: _Worker, method: str) -> Answer:
        try:
            return cast("Answer", worker.pipe.recv())
        except (EOFError, ConnectionError):
            code = worker.process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        hint = "; the kernel does that when memory runs out" if code == -9 else ""
        raise self._lost(f"worker process {worker.rank} of {len(self._workers)} {how} in {method}{hint}", worker)

    def _give_up(self, method: str) -> None:
        suspects = self._progress.suspects(silence=SILENCE)
        names = " and ".join(str(rank) for rank in suspects)
        raise self._lost(
            f"no worker process has got anything done in {method} for {self._patience:g} seconds, and {names} of "
            f"{len(self._workers)} seems to be what the others wait for; it had not ended and has no exit code. If it "
            "is only slow, raise the training backend's `worker_patience`",
            self._workers[suspects[0]],
        )

    def _lost(self, what: str, worker: _Worker) -> RunError:
        """End the crew and return the error to raise."""
        tail = worker.log.read_bytes()[-TAIL:].decode(errors="replace").strip() or "nothing"
        self._end(what)
        return RunError(f"{what}. The last of its log:\n{tail}")

    def _end(self, why: str) -> None:
        self._ended = why
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()


def _check_devices(processes: int) -> None:
    devices = torch.cuda.device_count()
    if 0 < devices < processes:
        raise RunError(f"processes = {processes} takes as many GPUs, and {devices} can be seen; lower it to {devices}")


def _start(rank: int, size: int, folder: Path) -> _Worker:
    here, there = Pipe()
    log = folder / f"worker-{rank}.log"
    environment = {
        "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path),
        "PYTHONUNBUFFERED": "1",
        "LOCAL_RANK": str(rank),
        "RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "WORLD_SIZE": str(size),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", _WORKER, *map(str, (rank, size, os.getpid(), there.fileno(), folder))],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=(there.fileno(),),
            # An interrupt at the terminal is the owner's to handle.
            start_new_session=True,
        )
    there.close()
    return _Worker(rank=rank, process=process, pipe=here, log=log)


_WORKER = "tumbler_backends.training.torch.workers.worker"


def _tell(worker: _Worker, message: str | None) -> None:
    try:
        worker.pipe.send(message)
    except OSError:
        # It is gone, which is found where its answer is awaited.
        return


def _has_room(model: Path) -> bool:
    """Return whether shared memory takes two updates of the model, in float32 where its files are in half."""
    size = sum(each.stat().st_size for each in model.glob("*.safetensors"))
    return SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > 4 * size
