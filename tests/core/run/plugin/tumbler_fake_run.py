"""A third-party plugin for the run tests: the kit's fakes, and a trainer that only counts."""

import asyncio
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tumbler import hookimpl
from tumbler.config import Settings
from tumbler.contracts.algorithm import Algorithm, Group, PlannedGroup, PlanState, RolloutPlan, UpdateRule
from tumbler.contracts.batch import CreditedTrajectory, LossOutput, TokenBatch
from tumbler.contracts.environment import Expert, StepResult, Task
from tumbler.contracts.inference import GenerateRequest, Generation, WeightUpdate
from tumbler.contracts.training import Phase, StepReport
from tumbler.contracts.values import JSONObject, ToolCall
from tumbler.errors import InferenceError, SandboxDied
from tumbler.observers import StepMetrics
from tumbler.seeding import derive_seed
from tumbler.specs import AgentSpec, AlgorithmSpec, BackendSpec, EnvironmentSpec, ModelSpec
from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference, TwoStepEnvironment, TwoStepSettings
from tumbler.trajectory import Anchor, Trajectory


class SlowSettings(TwoStepSettings):
    delay: float = 0.0
    """Seconds that each step takes."""
    hang_first: int = 0
    """How many of the first instances of a training stage hang in their first step."""
    slow_one_in: int = 0
    """One in so many instances takes twenty times as long; 0 none."""
    fail_every: int = 0
    """Every so many steps of an instance, the sandbox "dies"; 0 never."""
    experts: int = -1
    """How many experts there are in a training stage before one more fails; -1 is any number."""


class SlowTwoStep(TwoStepEnvironment):
    steps = 0
    built = 0

    def __init__(self, settings: SlowSettings) -> None:
        super().__init__(settings)
        self._slow = settings
        type(self).built += 1
        self._hangs = 0 < len(HUNG) <= settings.hang_first
        HUNG.extend([True] * self._hangs)
        self._pace = 20 if settings.slow_one_in and type(self).built % settings.slow_one_in == 0 else 1

    async def step(self, call: ToolCall) -> StepResult:
        await asyncio.sleep(3600 if self._hangs else self._slow.delay * self._pace)
        type(self).steps += 1
        if self._slow.fail_every and type(self).steps % self._slow.fail_every == 0:
            raise SandboxDied("out of memory (scripted)")
        return await super().step(call)

    def expert(self, task: Task, *, seed: int) -> Expert:
        if len(EXPERTS) == self._slow.experts:
            raise SandboxDied("no more experts (scripted)")
        EXPERTS.append(task.id)
        return super().expert(task, seed=seed)


class ScriptSettings(Settings):
    solves: bool = True
    """Whether every second task is solved, or none."""
    always: bool = False
    """Whether every task is solved."""
    tokenizer: str = "characters"
    """The tokenizer's fingerprint."""
    fail_one_in: int = 0
    """One in so many requests fails, by their seeds; 0 none."""


class NamedTokenizer(CharacterTokenizer):
    def __init__(self, fingerprint: str) -> None:
        super().__init__()
        self.fingerprint = fingerprint  # type: ignore[misc]  # the class has a default


class Inference(ScriptedInference):
    def __init__(self, settings: ScriptSettings) -> None:
        super().__init__(self._answer, NamedTokenizer(settings.tokenizer))
        self._solves = settings.solves
        self._always = settings.always
        self._fail_one_in = settings.fail_one_in

    async def generate(self, request: GenerateRequest) -> Generation:
        if self._fail_one_in and request.seed % self._fail_one_in == 0:
            raise InferenceError("out of memory (scripted)")
        return await super().generate(request)

    def _answer(self, prompt: str) -> str:
        last = prompt.rsplit("user\n", 1)[-1].removesuffix("assistant\n").strip()
        if not last.startswith("word: "):
            return "@look"
        word = last.removeprefix("word: ")
        return json_call(word if self._always or (self._solves and int(word, 16) % 2) else "wrong")


def json_call(word: str) -> str:
    return f"@say {json.dumps({'word': word})}"


class TrainingSettings(Settings):
    delay: float = 0.0
    """Seconds that each step takes."""


class Training:
    """Counts what it is given; its checkpoint is a JSON file."""

    def __init__(self, settings: TrainingSettings) -> None:
        self._delay = settings.delay
        self.state: dict[str, Any] = {"version": 0, "phase": "", "planned": 0, "seen": [], "credits": []}

    async def start(self, model: Path, *, seed: int) -> None: ...

    def begin(self, phase: Phase, *, optimizer_steps: int) -> None:
        self.state.update(phase=phase, planned=optimizer_steps)
        EXPERTS.clear()
        HUNG[:] = [True]

    async def fit_sft(self, batch: Sequence[Trajectory]) -> StepReport:
        return self._count([each.id for each in batch])

    async def step(self, batch: Sequence[CreditedTrajectory], algorithm: Algorithm) -> StepReport:
        EVENTS.append(f"training {self.version}")
        await asyncio.sleep(self._delay)
        EVENTS.append(f"trained {self.version}")
        self.state["credits"] += [credit for each in batch for credit in each.credits]
        self.state.setdefault("masked", 0)
        self.state["masked"] += sum(not chunk.trainable for each in batch for chunk in each.trajectory.chunks)
        return self._count([each.trajectory.id for each in batch])

    def _count(self, ids: list[str]) -> StepReport:
        self.state["version"] += 1
        self.state["seen"] += ids
        return StepReport(optimizer_steps=1, metrics={"train/loss": 1.0})

    @property
    def version(self) -> int:
        return int(self.state["version"])

    def weights(self) -> WeightUpdate:
        return WeightUpdate(version=self.version)

    async def save(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps(self.state))

    async def load(self, folder: Path) -> None:
        self.state = json.loads((folder / "state.json").read_text())

    async def close(self) -> None: ...


class CountSettings(Settings):
    anchored: bool = False
    size: int = 3
    """Of each group."""


class Count:
    """Plans two groups of three and credits each chunk with the reward."""

    update_rule = UpdateRule()
    tasks_per_step = 2

    def __init__(self, settings: CountSettings) -> None:
        self.wants_experts = settings.anchored
        self._size = settings.size

    def plan(self, tasks: Sequence[Task], state: PlanState) -> RolloutPlan:
        return RolloutPlan(
            groups=tuple(
                PlannedGroup(task=task, size=self._size, anchor=Anchor(expert=expert, chunk=1) if expert else None)
                for task in tasks
                for expert in [state.experts(task.id) if self.wants_experts else None]
            )
        )

    def credit(self, group: Group) -> Sequence[Sequence[float]]:
        return [[each.reward or 0.0] * len(each.chunks) for each in group.trajectories]

    def loss(self, batch: TokenBatch) -> LossOutput:
        raise AssertionError("the fake trainer computes no loss")


class WholeCount(Count):
    """Credits a whole step at once, each chunk with the step's number of groups."""

    def credit_batch(self, groups: Sequence[Group]) -> Sequence[Sequence[Sequence[float]]]:
        return [[[float(len(groups))] * len(each.chunks) for each in group.trajectories] for group in groups]


class ChoosySettings(CountSettings):
    drop_every: int = 0
    """Drop one in so many rollouts, by their seeds."""
    refuse: Literal["none", "solved", "all"] = "none"
    """Which groups are refused."""
    learns: bool = False
    """Whether the size of groups follows from what was observed."""


class Choosy(Count):
    """Refuses rollouts, and learns from what it observes: the groups it has seen, in order."""

    def __init__(self, settings: ChoosySettings) -> None:
        super().__init__(settings)
        self._settings = settings
        self._seen: list[str] = []

    def plan(self, tasks: Sequence[Task], state: PlanState) -> RolloutPlan:
        plan = super().plan(tasks, state)
        size = 2 + derive_seed(*self._seen) % 3 if self._settings.learns else self._size
        return RolloutPlan(groups=tuple(replace(each, size=size) for each in plan.groups))

    def reject_trajectory(self, trajectory: Trajectory) -> str:
        every = self._settings.drop_every
        return "unlucky seed" if every and trajectory.header.seed % every == 0 else ""

    def reject_group(self, group: Group) -> str:
        solved = all(each.success for each in group.trajectories)
        return "refused" if self._settings.refuse == "all" or (self._settings.refuse == "solved" and solved) else ""

    def observe(self, groups: Sequence[Group]) -> Mapping[str, float]:
        self._seen += [f"{group.id}:{len(group.trajectories)}" for group in groups]
        return {"choosy/seen": float(len(self._seen))}

    def state(self) -> JSONObject:
        return {"seen": list(self._seen), "crucial": {"task": len(self._seen)}}

    def restore(self, state: JSONObject) -> None:
        self._seen = list(state.get("seen", ()))  # type: ignore[arg-type]  # as `state` wrote it


class Source:
    def __init__(self, settings: Settings) -> None: ...

    def prepare(self, folder: Path, *, texts: Any, seed: int) -> Path:
        (folder / "texts.json").write_text(json.dumps(list(texts)))
        return folder


HUNG: list[bool] = []
"""One entry since training began, and one for each instance that hangs."""
EVENTS: list[str] = []
"""What happened in RL, in order: steps that began and ended, by the version before them."""
EXPERTS: list[str] = []
"""The task of each expert that was made since training began."""
STEPS: list[StepMetrics] = []
"""What was told of each finished step, in order."""


@hookimpl
def tumbler_step_finished(metrics: StepMetrics) -> None:
    STEPS.append(metrics)


LISTENERS: list[Callable[[], None]] = []
"""Called for each finished trajectory; the tests put theirs in."""


@hookimpl
def tumbler_trajectory_finished() -> None:
    for listener in LISTENERS:
        listener()


def _is(value: Any) -> Any:
    return lambda: value


@hookimpl
def tumbler_environments() -> list[EnvironmentSpec]:
    return [EnvironmentSpec(name="two-step", summary="Two steps.", load=_is(SlowTwoStep), config=_is(SlowSettings))]


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    return [
        AlgorithmSpec(name="count", summary="Counts.", load=_is(Count), config=_is(CountSettings)),
        AlgorithmSpec(name="whole", summary="Counts groups.", load=_is(WholeCount), config=_is(CountSettings)),
        AlgorithmSpec(name="choosy", summary="Refuses and learns.", load=_is(Choosy), config=_is(ChoosySettings)),
    ]


def _mute() -> Any:
    """Return an agent that cannot write an expert's actions."""
    from tumbler_agents.react.agent import ReactAgent

    class Mute:
        def __init__(self, settings: Any) -> None:
            self.run = ReactAgent(settings).run

    return Mute


def _mute_settings() -> Any:
    from tumbler_agents.react.settings import ReactSettings

    return ReactSettings


@hookimpl
def tumbler_agents() -> list[AgentSpec]:
    return [AgentSpec(name="mute", summary="Gives no demonstrations.", load=_mute, config=_mute_settings)]


@hookimpl
def tumbler_models() -> list[ModelSpec]:
    return [ModelSpec(name="none", summary="No model.", load=_is(Source), config=_is(Settings))]


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="scripted", summary="A script.", load=_is(Inference), config=_is(ScriptSettings), roles=("inference",)
        ),
        BackendSpec(
            name="counter", summary="Counts.", load=_is(Training), config=_is(TrainingSettings), roles=("training",)
        ),
    ]
