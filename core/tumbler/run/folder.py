"""The folder of a run: who works on it, how far it is, and where everything lies in it.

```
run.json                         the resolved run; `tumbler run run.json` repeats it
state.json                       how far the run is; what a resume starts from
results.json                     the stages' results
stages/1-sft/trajectories.jsonl  every finished episode
stages/1-sft/steps.jsonl         which trajectories each step used, and what was refused for which reason
stages/3-rl/plans.jsonl          what was planned ahead of training, and what came in place of refused groups
stages/3-rl/choices.jsonl        which of it each step trains
stages/3-rl/crucial.json         crucial chunks by task, if the algorithm looks for them
checkpoints/3-rl-10/             model, optimizer, schedule, random states
```
"""

import fcntl
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from tumbler.contracts.values import JSONObject
from tumbler.errors import RunFolderError
from tumbler.run.files import read_json, write_json

__all__ = ["RunFolder", "RunState"]


@dataclass
class RunState:
    """How far a run is. Everything after it can be done again from what the folder holds."""

    stage: int = 0
    """Index of the stage to go on with."""
    step: int = 0
    """Steps of that stage that the checkpoint holds."""
    checkpoint: str | None = None
    """Path of the checkpoint, relative to the folder; None is the model that the run started from."""
    model: str | None = None
    """The model folder that the run started from."""
    teacher: str | None = None
    """The teacher's model folder, if the run has a teacher."""
    optimizer_steps: int = 0
    seconds: float = 0.0
    """Wall time of all processes that worked on the run, up to this state."""
    history: dict[str, float] = field(default_factory=dict)
    """The last step's figures, which the next plan may depend on."""
    flat_steps: int = 0
    """RL steps in a row in which no group had any spread of rewards and not all succeeded."""
    sampled_tokens: int = 0
    """Tokens that the policy sampled in the stage: in all attempts that ended by themselves, also those that were
    dropped or failed, and those made for experts."""
    learnt: JSONObject = field(default_factory=dict)
    """What the algorithm learnt from the stage's rollouts, as it wrote it."""
    waves: list[int] = field(default_factory=list)
    """Waves of the stage that are planned, and of which something is left to train."""
    experts: dict[str, JSONObject] = field(default_factory=dict)
    """Task → the stage's expert trajectory for it: its id, its length, the step it was made in."""
    results: list[JSONObject] = field(default_factory=list)
    """The finished stages' results."""
    finished: bool = False


class RunFolder:
    """One run's folder, locked while a process works on it."""

    def __init__(self, path: Path) -> None:
        """Name the folder; `create` or `open` it before use."""
        self.path = path
        self._lock: IO[str] | None = None

    def create(self, resolved: JSONObject) -> RunState:
        """Make a new folder for the resolved run; one that holds a run already is refused."""
        if (self.path / "run.json").exists():
            raise RunFolderError(f"{self.path} already holds a run; resume it with: tumbler run --resume {self.path}")
        self.path.mkdir(parents=True, exist_ok=True)
        self._take()
        state = RunState()
        self.write_state(state)
        # What makes it a run's folder comes last: a process that ends before leaves one that can still be taken.
        write_json(self.path / "run.json", resolved)
        return state

    def open(self) -> RunState:
        """Open the folder of a run that was begun."""
        self._read_state()
        self._take()
        try:
            return self._read_state()  # nobody else changes it any more
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let others work on the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write_state(self, state: RunState) -> None:
        """Replace the state."""
        write_json(self.path / "state.json", asdict(state))

    def stage(self, label: str) -> Path:
        """Return the stage's folder, made if need be."""
        path = self.path / "stages" / label
        path.mkdir(parents=True, exist_ok=True)
        return path

    def checkpoint(self, label: str, step: int) -> Path:
        """Return where the checkpoint after `step` steps of a stage belongs."""
        return self.path / "checkpoints" / f"{label}-{step}"

    def prune_checkpoints(self, keep: set[str]) -> None:
        """Remove every checkpoint but those named by their path relative to the folder."""
        root = self.path / "checkpoints"
        for path in root.iterdir() if root.exists() else ():
            if str(path.relative_to(self.path)) not in keep:
                shutil.rmtree(path, ignore_errors=True)

    def _read_state(self) -> RunState:
        fields = cast("dict[str, Any]", dict(read_json(self.path / "state.json")))
        try:
            return RunState(**fields)
        except TypeError as error:
            raise RunFolderError(f"{self.path / 'state.json'} was written by another version: {error}") from error

    def _take(self) -> None:
        lock = (self.path / ".lock").open("a+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise RunFolderError(
                f"another process (pid {owner}) works on {self.path}; wait for it or end it"
            ) from error
        # Who works on it is for messages alone, which a disk that is full may keep from being written.
        with suppress(OSError):
            os.ftruncate(lock.fileno(), 0)
            os.write(lock.fileno(), str(os.getpid()).encode())
        self._lock = lock
