"""The components of a simulated run: tasks, an engine, episodes and a trainer that only take time.

Everything else is the real thing: the run loop, its waves and scheduler, the journal, the registry.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from experiments.scale.world import TRACES, Engine
from pydantic import Field, PositiveInt

from tumbler import hookimpl
from tumbler.config import Settings
from tumbler.contracts.algorithm import Algorithm, Group, PlannedGroup, PlanState, RolloutPlan, UpdateRule
from tumbler.contracts.batch import CreditedTrajectory, LossOutput, TokenBatch
from tumbler.contracts.environment import Task
from tumbler.contracts.execution import EpisodeRunner, RolloutRequest
from tumbler.contracts.inference import WeightUpdate
from tumbler.contracts.training import Phase, StepReport
from tumbler.observers import StepMetrics
from tumbler.seeding import derive_seed
from tumbler.specs import AlgorithmSpec, BackendSpec, EnvironmentSpec, ModelSpec
from tumbler.testing.fakes import ScriptedInference, TwoStepEnvironment, TwoStepSettings
from tumbler.trajectory import Chunk, Segment, Trajectory


class World:
    """What the components of one simulated run share; one run at a time in a process."""

    def __init__(self) -> None:
        """Begin with nothing done."""
        self.clear()

    def clear(self) -> None:
        """Begin a new run."""
        self.engine = Engine(slots=1, tokens_per_second=1.0)
        self.trained = 0.0
        """Seconds that the trainer worked."""
        self.lengths: list[int] = []
        """Turns of each episode that was trained."""


WORLD = World()
STEPS: list[StepMetrics] = []
"""What the run told of each step, in order."""


@hookimpl
def tumbler_step_finished(metrics: StepMetrics) -> None:
    """Keep the figures."""
    STEPS.append(metrics)


class SimulatedTasks(TwoStepEnvironment):
    """Tasks that are nothing but a name."""

    async def tasks(self, split: str, *, count: int, seed: int) -> Sequence[Task]:
        """Return so many."""
        return [Task(id=f"{seed}-{number}", instruction="wait", split=split) for number in range(count)]


class EngineSettings(Settings):
    """How fast replies come."""

    slots: PositiveInt = 1024
    """Replies that are sampled at once."""
    tokens_per_second: float = Field(default=50.0, gt=0)
    """Of each reply."""


class SimulatedInference(ScriptedInference):
    """Keeps the version; episodes ask the world for their replies."""

    def __init__(self, settings: EngineSettings) -> None:
        """Give the world an engine."""
        super().__init__(lambda _prompt: "@look")
        WORLD.engine = Engine(slots=settings.slots, tokens_per_second=settings.tokens_per_second)

    async def update_weights(self, update: WeightUpdate) -> None:
        """Take the version."""
        await super().update_weights(update)
        WORLD.engine.version = update.version


class ExecutionSettings(Settings):
    """How many episodes run, and how long they take."""

    capacity: PositiveInt = 10_000
    """Environments at once."""
    trace: str = "even"
    """How long turns take, one of the world's traces."""


class SimulatedExecution:
    """Episodes that only take time; their headers are those of the first one, which the real runner runs."""

    def __init__(self, settings: ExecutionSettings) -> None:
        """Take the trace."""
        self.capacity = settings.capacity
        self._trace = TRACES[settings.trace]
        self._runner: EpisodeRunner | None = None
        self._pattern: asyncio.Task[Trajectory] | None = None

    async def start(self, runner: EpisodeRunner) -> None:
        """Keep the real runner, for the pattern."""
        self._runner = runner

    async def submit(self, request: RolloutRequest) -> Trajectory:
        """Let the time of an episode pass."""
        if self._runner is None:
            raise AssertionError("submitted before the start")
        if self._pattern is None:
            self._pattern = asyncio.ensure_future(self._as_coroutine(request))
        pattern = await asyncio.shield(self._pattern)
        turns, failed = self._trace.episode(Random(derive_seed(request.seed, request.attempt)))
        versions = []
        for turn in turns:
            versions.append(await WORLD.engine.reply(turn.tokens))
            await asyncio.sleep(turn.seconds)
        header = replace(
            pattern.header,
            id=request.id,
            task=request.task.id,
            seed=request.seed,
            group=request.group,
            attempt=request.attempt,
        )
        if failed:
            return Trajectory(header=header, status="infra_failed", status_reason="the environment failed (simulated)")
        chunks = tuple(
            Chunk(segment=0, start=place, end=place + 1, policy_version=version, behaviour_logprobs=(-1.0,))
            for place, version in enumerate(versions)
        )
        segments = (Segment(id=0, token_ids=tuple(range(len(chunks)))),)
        solved = bool(request.seed % 2)
        return Trajectory(header=header, segments=segments, chunks=chunks, reward=float(solved), success=solved)

    async def _as_coroutine(self, request: RolloutRequest) -> Trajectory:
        if self._runner is None:
            raise AssertionError("submitted before the start")
        return await self._runner(request)

    async def health(self) -> Mapping[str, float]:
        """Return no gauge."""
        return {}

    async def close(self) -> None:
        """Hold nothing."""


class TrainerSettings(Settings):
    """How fast training is."""

    seconds_per_turn: float = Field(default=0.01, gt=0)
    """That the trainer takes for each turn of what it trains."""


class SimulatedTraining:
    """A trainer that takes time for each turn."""

    def __init__(self, settings: TrainerSettings) -> None:
        """Begin at version 0."""
        self._seconds_per_turn = settings.seconds_per_turn
        self.version = 0

    async def start(self, model: Path, *, seed: int) -> None:
        """Need no model."""

    def begin(self, phase: Phase, *, optimizer_steps: int) -> None:
        """Need no phase."""

    async def fit_sft(self, batch: Sequence[Trajectory]) -> StepReport:
        """Is never asked."""
        raise AssertionError("a simulated run has no sft stage")

    async def step(self, batch: Sequence[CreditedTrajectory], algorithm: Algorithm) -> StepReport:
        """Let the time of a step pass."""
        lengths = [len(each.trajectory.chunks) for each in batch]
        WORLD.lengths += lengths
        seconds = self._seconds_per_turn * sum(lengths)
        WORLD.trained += seconds
        await asyncio.sleep(seconds)
        self.version += 1
        return StepReport(optimizer_steps=1, metrics={})

    def weights(self) -> WeightUpdate:
        """Return the version."""
        return WeightUpdate(version=self.version)

    async def save(self, folder: Path) -> None:
        """Write an empty checkpoint."""
        folder.mkdir(parents=True, exist_ok=True)

    async def load(self, folder: Path) -> None:
        """Read nothing."""

    async def close(self) -> None:
        """Hold nothing."""


class GroupSettings(Settings):
    """What a step trains."""

    groups: PositiveInt = 125
    """That a step trains."""
    size: PositiveInt = 8


class Groups:
    """Plans so many groups of equal size."""

    update_rule = UpdateRule()
    wants_experts = False

    def __init__(self, settings: GroupSettings) -> None:
        """Take the sizes."""
        self.tasks_per_step = settings.groups
        self._size = settings.size

    def plan(self, tasks: Sequence[Task], state: PlanState) -> RolloutPlan:
        """Return a group for each task."""
        return RolloutPlan(groups=tuple(PlannedGroup(task=task, size=self._size) for task in tasks))

    def credit(self, group: Group) -> Sequence[Sequence[float]]:
        """Weigh all alike."""
        return [[1.0] * len(each.chunks) for each in group.trajectories]

    def loss(self, batch: TokenBatch) -> LossOutput:
        """Is never asked."""
        raise AssertionError("a simulated trainer computes no loss")


class NoModel:
    """No model at all."""

    def __init__(self, settings: Settings) -> None:
        """Need nothing."""

    def prepare(self, folder: Path, *, texts: object, seed: int) -> Path:
        """Leave the folder as it is."""
        return folder


@hookimpl
def tumbler_environments() -> list[EnvironmentSpec]:
    """Offer tasks that only take time."""
    return [
        EnvironmentSpec(
            name="tasks", summary="Simulated tasks.", load=lambda: SimulatedTasks, config=lambda: TwoStepSettings
        )
    ]


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    """Offer groups of equal size."""
    return [AlgorithmSpec(name="groups", summary="Plans groups.", load=lambda: Groups, config=lambda: GroupSettings)]


@hookimpl
def tumbler_models() -> list[ModelSpec]:
    """Offer no model at all."""
    return [ModelSpec(name="none", summary="No model.", load=lambda: NoModel, config=lambda: Settings)]


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Offer an engine, episodes and a trainer that only take time."""
    return [
        BackendSpec(
            name="engine",
            summary="Simulated replies.",
            load=lambda: SimulatedInference,
            config=lambda: EngineSettings,
            roles=("inference",),
        ),
        BackendSpec(
            name="episodes",
            summary="Simulated episodes.",
            load=lambda: SimulatedExecution,
            config=lambda: ExecutionSettings,
            roles=("execution",),
        ),
        BackendSpec(
            name="trainer",
            summary="Simulated training.",
            load=lambda: SimulatedTraining,
            config=lambda: TrainerSettings,
            roles=("training",),
        ),
    ]
