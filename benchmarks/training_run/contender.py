"""What both contenders are told and what they tell; knows neither."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from world import Shape

__all__ = ["Job", "Told", "peak_megabytes", "read_job"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of one contender."""

    model: str
    """The model folder."""
    latency: str
    """Of the environment, by its name in `world.LATENCIES`."""
    shape: Shape
    steps: int
    """Measured steps."""
    warmup: int
    """Steps before them."""
    learning_rate: float
    staleness: int
    """How many steps Tumbler's rollouts may run ahead of training; TRL's do not."""
    micro_batch: int
    """Tokens that Tumbler's training computes at a time."""
    checkpointing: bool
    """Whether TRL computes activations again in the backward pass, to save memory."""
    seed: int


@dataclass(kw_only=True)
class Told:
    """What a contender found out about itself."""

    ends: list[float] = field(default_factory=list)
    """When each step ended, by a clock that never goes back."""
    cpu: list[float] = field(default_factory=list)
    """The processor time of the whole process then."""
    sampled: list[int] = field(default_factory=list)
    """Tokens that were sampled and that each step trained."""
    spread: list[float] = field(default_factory=list)
    """The standard deviation of rewards within a group in each step, so that it is seen that something was learnt."""
    megabytes: float = 0.0
    """The peak of resident memory."""
    difference: float | None = None
    """The largest difference between a token's log-probabilities in sampling and in training."""

    def end_step(self, *, sampled: int, spread: float) -> None:
        """Note that a step has ended."""
        self.ends.append(time.perf_counter())
        self.cpu.append(time.process_time())
        self.sampled.append(sampled)
        self.spread.append(spread)


def peak_megabytes() -> float:
    """Return the most memory that this process ever had, without what its parent had when it began."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def read_job(path: str) -> tuple[Job, Callable[[Told], None]]:
    """Return the job of a file, and what writes the answer beside it."""
    given = json.loads(Path(path).read_text())
    job = Job(**{**given, "shape": Shape(**given["shape"])})

    def answer(told: Told) -> None:
        told.megabytes = peak_megabytes()
        Path(path).with_suffix(".told").write_text(json.dumps(asdict(told)))

    return job, answer
