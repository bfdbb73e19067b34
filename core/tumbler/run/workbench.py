"""What the stages of a run work with: the built components, the folder, the state, the observers."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tumbler.contracts.algorithm import Algorithm
from tumbler.contracts.environment import Environment, Task
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import InferenceBackend, Sampling
from tumbler.contracts.training import TrainingBackend
from tumbler.contracts.values import JSONObject
from tumbler.errors import RunError, TumblerError
from tumbler.observers import RunInfo, StageInfo, StepMetrics
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedComponent, ResolvedRun
from tumbler.rollout.scheduler import Collected, Follow, Reject, Scheduler, Settle
from tumbler.run.assembly import environment_key
from tumbler.run.folder import RunFolder, RunState
from tumbler.run.journal import StageJournal
from tumbler.run.plans import PlanJournal
from tumbler.run.provenance import Makers
from tumbler.run.watchdog import OnStall, Watchdog
from tumbler.seeding import derive_seed
from tumbler.trajectory import Anchor, Trajectory

__all__ = ["Stage", "Workbench"]


@dataclass(kw_only=True)
class Workbench:
    """The parts of a running run. Stages read it; only `Stage` writes state and journals."""

    resolved: ResolvedRun
    host: PluginHost
    folder: RunFolder
    state: RunState
    info: RunInfo
    environments: Mapping[str, Environment]
    """One instance of each environment, for its tasks alone: `environment_key` → instance."""
    scheduler: Scheduler
    inference: InferenceBackend | None
    training: TrainingBackend | None
    algorithm: Algorithm | None
    started: float
    """`time.monotonic()` when this process took up the run, less what earlier ones spent."""
    on_stall: OnStall | None
    """Is told when a stage without progress is about to be ended."""

    def need_training(self) -> TrainingBackend:
        """Return the training backend; the registry's checks make sure that there is one."""
        if self.training is None:
            raise RunError("the stage needs a training backend and the run names none")
        return self.training

    def need_inference(self) -> InferenceBackend:
        """Return the inference backend; the registry's checks make sure that there is one."""
        if self.inference is None:
            raise RunError("the stage needs an inference backend and the run names none")
        return self.inference

    def need_algorithm(self) -> Algorithm:
        """Return the algorithm; the registry's checks make sure that there is one."""
        if self.algorithm is None:
            raise RunError("the stage needs an algorithm and the run names none")
        return self.algorithm

    async def publish(self) -> None:
        """Give the weights in training to the inference backend."""
        if self.training is not None and self.inference is not None:
            await self.inference.update_weights(self.training.weights())

    async def tasks(self, component: ResolvedComponent, split: str, count: int, seed: int) -> Sequence[Task]:
        """Return tasks of an environment of the run; none at all is an error."""
        tasks = await self.environments[environment_key(component)].tasks(split, count=count, seed=seed)
        if not tasks:
            raise RunError(f"environment {component.label!r} has no tasks in split {split!r}")
        return tasks


class Stage:
    """One stage at work: asks for rollouts, writes journals and state, tells observers."""

    def __init__(self, bench: Workbench, info: StageInfo) -> None:
        """Open the stage's journal; what an earlier process finished is known from it.

        Raises `RunError` for a trajectory of another agent or other context strategies than the run's, here and
        when one arrives: all that is trained, or that rollouts start from, comes this way.
        """
        self.bench = bench
        self.info = info
        folder = bench.folder.stage(info.label)
        self.journal = StageJournal(folder)
        self._makers = Makers.of(bench.resolved, bench.host)
        self._watchdog: Watchdog | None = None
        self._known = self.journal.known()
        for trajectory in self._known.values():
            self._makers.require(trajectory)
        self.plans = PlanJournal(folder, self.journal)

    def seed(self, *path: str | int) -> int:
        """Return a seed of this stage."""
        return derive_seed(self.bench.resolved.seed, self.info.label, *path)

    def request(
        self,
        env: ResolvedComponent,
        task: Task,
        name: str,
        *,
        group: str = "",
        source: Literal["policy", "expert", "teacher"] = "policy",
        sampling: Sampling | None = None,
        seed: int | None = None,
        anchor: Anchor | None = None,
    ) -> RolloutRequest:
        """Return the request for one rollout; `name` is unique in the stage."""
        rollout = f"{self.info.label}/{name}"
        return RolloutRequest(
            id=rollout,
            task=task,
            seed=self.seed("rollout", name) if seed is None else seed,
            env_seed=derive_seed(self.bench.resolved.seed, "env", task.id),
            group=f"{self.info.label}/{group or name}",
            sampling=sampling or self.bench.resolved.sampling,
            env=environment_key(env),
            source=source,
            anchor=anchor,
            fork=anchor is not None and self.bench.resolved.rl.anchors == "fork",
        )

    async def collect(
        self,
        requests: Sequence[RolloutRequest],
        *,
        reject: Reject | None = None,
        follow: Follow | None = None,
        settle: Settle | None = None,
        rank: int = 0,
        spares: int = 0,
        dispensable: bool = False,
    ) -> Collected:
        """Run the requests, and what follows them, but for what the journal knows; see `Scheduler.collect`.

        What the policy sampled in them counts in the state, by `spend` where `settle` is told of each group.
        """
        collected = await self.bench.scheduler.collect(
            requests,
            known=self._known,
            report=self._report,
            reject=reject,
            follow=follow,
            settle=settle,
            rank=rank,
            spares=spares,
            dispensable=dispensable,
        )
        if settle is None:
            self.spend(collected)
        return collected

    def spend(self, collected: Collected) -> None:
        """Count what the policy sampled, and let go of trajectories that nobody asks for again."""
        self.bench.state.sampled_tokens += collected.sampled_tokens
        for group in collected.trajectories.values():
            for trajectory in group:
                self._known.pop(trajectory.id, None)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        """Watch for progress while the block runs; see `Watchdog`."""
        seconds = self.bench.resolved.rl.stall_seconds
        folder = self.bench.folder.stage(self.info.label)
        bench = self.bench
        watchdog = Watchdog(bench.scheduler.flights, bench.inference, folder, seconds=seconds, on_stall=bench.on_stall)
        async with watchdog:
            self._watchdog = watchdog
            try:
                yield
            finally:
                self._watchdog = None

    async def publish(self) -> None:
        """Give the weights in training to the inference backend; one that never takes them ends the run."""
        if self._watchdog is not None:
            await self.bench.publish()
            return
        async with self.watch():
            await self.bench.publish()

    @contextmanager
    def training(self) -> Iterator[None]:
        """Let the watchdog know that the trainer works while the block runs; errors say in which step."""
        if self._watchdog is not None:
            self._watchdog.note(training=True)
        try:
            yield
        except TumblerError as error:
            error.add_note(f"It happened in {self.info.label}, when {self.bench.state.step} steps were done.")
            raise
        finally:
            if self._watchdog is not None:
                self._watchdog.note(training=False)

    def emit_step(self, metrics: StepMetrics) -> None:
        """Tell observers of a finished step."""
        self.bench.host.observers.emit("tumbler_step_finished", run=self.bench.info, stage=self.info, metrics=metrics)

    async def finish_step(
        self,
        step: int,
        optimizer_steps: int,
        used: Sequence[str],
        *,
        checkpoint: bool,
        dropped: Mapping[str, int] | None = None,
        refused: Mapping[str, int] | None = None,
    ) -> None:
        """Write down that a step is done, and what it refused for which reason; save a checkpoint if it is due."""
        state = self.bench.state
        self.journal.use(step, optimizer_steps, used, dropped=dropped, refused=refused)
        state.optimizer_steps += optimizer_steps
        state.step = step + 1
        if checkpoint:
            await self.checkpoint()

    def finish(self, result: JSONObject) -> None:
        """Write down that the stage is done; the run goes on with the next one."""
        state = self.bench.state
        entry = {"index": self.info.index, "kind": self.info.kind, "label": self.info.label, **result}
        state.results.append(entry)
        state.stage += 1
        state.step = 0
        state.history = {}
        state.learnt = {}
        state.waves = []
        state.experts = {}
        state.flat_steps = 0
        state.sampled_tokens = 0
        state.seconds = time.monotonic() - self.bench.started
        self.bench.folder.write_state(state)
        self.bench.host.observers.emit("tumbler_stage_finished", run=self.bench.info, stage=self.info, result=entry)

    @staticmethod
    def checkpoint_due(step: int, *, steps: int, every: int) -> bool:
        """Return whether a checkpoint follows a step of a stage of `steps`; with `every` 0 only the last one does."""
        return step + 1 == steps or (every > 0 and (step + 1) % every == 0)

    async def checkpoint(self) -> None:
        """Save a checkpoint of the state as it stands; what came before it need never be done again."""
        state = self.bench.state
        path = self.bench.folder.checkpoint(self.info.label, state.step)
        with self.training():
            await self.bench.need_training().save(path)
        state.checkpoint = str(path.relative_to(self.bench.folder.path))
        state.seconds = time.monotonic() - self.bench.started
        self.bench.folder.write_state(state)
        self.bench.folder.prune_checkpoints(self._kept(path))
        self.bench.host.observers.emit("tumbler_checkpoint_saved", run=self.bench.info, stage=self.info, path=path)

    def _kept(self, newest: Path) -> set[str]:
        """Return the checkpoints to keep: the newest, and the last one of each earlier stage."""
        earlier = {str(entry["checkpoint"]) for entry in self.bench.state.results if entry.get("checkpoint")}
        return {str(newest.relative_to(self.bench.folder.path)), *earlier}

    async def _report(self, trajectory: Trajectory) -> None:
        self._makers.require(trajectory)
        if self._watchdog is not None:
            self._watchdog.note()
        self.journal.add(trajectory)
        self.bench.host.observers.emit(
            "tumbler_trajectory_finished", run=self.bench.info, stage=self.info, trajectory=trajectory
        )
