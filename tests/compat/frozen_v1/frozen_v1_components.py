"""The components of the frozen plugin.

NEVER EDIT THIS FILE; see `frozen_v1_plugin.py` for the reason.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random

from tumbler.config import Settings
from tumbler.contracts.agent import Episode, Outcome
from tumbler.contracts.algorithm import Group, PlannedGroup, PlanState, RolloutPlan, UpdateRule
from tumbler.contracts.batch import CreditedTrajectory, LossOutput, TokenBatch
from tumbler.contracts.context import Budget, Plan, State, StrategyCaps, Trigger, View
from tumbler.contracts.environment import EnvironmentCapabilities, Observation, StepResult, Task, Verdict
from tumbler.contracts.execution import EpisodeRunner, RolloutRequest
from tumbler.contracts.inference import GenerateRequest, Generation, TextTokenizer, WeightUpdate
from tumbler.contracts.sandbox import Sandbox, SandboxCapabilities, SandboxSpec
from tumbler.contracts.training import Phase, StepReport
from tumbler.contracts.values import Message, ToolCall, ToolSpec
from tumbler.errors import InferenceError, SandboxUnavailable
from tumbler.trajectory import Trajectory


class FrozenSettings(Settings):
    """The settings of every component here."""

    goal: int = 2
    """What to count to."""


class Component:
    """Keeps its settings."""

    def __init__(self, settings: FrozenSettings) -> None:
        """Keep the settings."""
        self.settings = settings


class Counting(Component):
    """An environment."""

    capabilities = EnvironmentCapabilities(needs_sandbox=False, replayable=True, multi_turn=True)
    count = 0

    async def tasks(self, split: str, *, count: int, seed: int) -> Sequence[Task]:
        """Return tasks."""
        return [Task(id=f"{split}-{seed}-{index}", instruction="Count.", split=split) for index in range(count)]

    def tools(self) -> Sequence[ToolSpec]:
        """Return the tools."""
        return [ToolSpec(name="count", description="Count on.", parameters={"type": "object"})]

    def sandbox_spec(self, task: Task) -> SandboxSpec | None:
        """Need no sandbox."""
        return None

    async def reset(self, task: Task, *, seed: int, sandbox: Sandbox | None) -> Observation:
        """Start at nothing."""
        self.count = 0
        return Observation(text="0")

    async def step(self, call: ToolCall) -> StepResult:
        """Count on."""
        if call.name != "count":
            return StepResult(observation="no such tool", errored=True, relevant=False)
        self.count += 1
        return StepResult(observation=str(self.count), terminated=self.count >= self.settings.goal)

    async def verify(self) -> Verdict:
        """Judge the count."""
        success = self.count == self.settings.goal
        return Verdict(reward=float(success), success=success, details={"count": self.count})

    async def close(self) -> None:
        """Hold nothing."""


class Uniform(Component):
    """An algorithm."""

    update_rule = UpdateRule(old_policy="behaviour", epochs=1, minibatches=1)
    tasks_per_step = 1
    wants_experts = False

    def plan(self, tasks: Sequence[Task], state: PlanState) -> RolloutPlan:
        """Roll every task out twice."""
        return RolloutPlan(groups=tuple(PlannedGroup(task=task, size=2) for task in tasks))

    def credit(self, group: Group) -> Sequence[Sequence[float]]:
        """Give each chunk its trajectory's reward."""
        return [[each.reward or 0.0] * len(each.chunks) for each in group.trajectories]

    def loss(self, batch: TokenBatch) -> LossOutput:
        """Return a loss."""
        return LossOutput(total=-batch.policy_logprobs.sum(), denominator=1.0, metrics={"loss": (0.0, 1.0)})


class OneCall(Component):
    """An agent."""

    async def run(self, episode: Episode) -> Outcome:
        """Ask once and call the first tool."""
        episode.context.append(Message(role="user", content=episode.task.instruction), pinned=True)
        reply = await episode.model.generate(await episode.context.messages())
        result = await episode.tools.call(ToolCall(name=episode.tools.specs[0].name), chunk=reply.chunk)
        return Outcome(reason="terminated" if result.terminated else "finished")


class KeepAll(Component):
    """A context strategy."""

    caps = StrategyCaps(bounded=False, deterministic=True, calls_model=False, rewrites="never")

    def start(self, task: Task, rng: Random) -> State:
        """Remember nothing."""
        return {}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Edit nothing."""
        return Plan()


class NoSandboxes(Component):
    """A sandbox backend."""

    capabilities = SandboxCapabilities(tier="process", network_modes=("none",))

    async def start(self) -> None:
        """Be ready."""

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Create none."""
        raise SandboxUnavailable("there are none")

    async def close(self) -> None:
        """Hold nothing."""


class Echo(Component):
    """An inference backend."""

    async def start(self, model: Path) -> None:
        """Be ready."""

    @property
    def tokenizer(self) -> TextTokenizer:
        """Have none before the start."""
        raise InferenceError("start first")

    async def generate(self, request: GenerateRequest) -> Generation:
        """Say the request again."""
        ids = request.token_ids[: request.sampling.max_tokens]
        return Generation(token_ids=ids, logprobs=(0.0,) * len(ids), finish_reason="stop", policy_version=0)

    async def release(self, session: str) -> None:
        """Cache nothing."""

    async def update_weights(self, update: WeightUpdate) -> None:
        """Have no weights."""

    def metrics(self) -> Mapping[str, float]:
        """Count nothing."""
        return {}

    async def close(self) -> None:
        """Hold nothing."""


class Still(Component):
    """A training backend."""

    version = 0

    async def start(self, model: Path, *, seed: int) -> None:
        """Be ready."""

    def begin(self, phase: Phase, *, optimizer_steps: int) -> None:
        """Begin nothing."""

    async def fit_sft(self, batch: Sequence[Trajectory]) -> StepReport:
        """Learn nothing."""
        return StepReport(optimizer_steps=0, metrics={})

    async def step(self, batch: Sequence[CreditedTrajectory], algorithm: object) -> StepReport:
        """Learn nothing."""
        return StepReport(optimizer_steps=0, metrics={"loss": 0.0})

    def weights(self) -> WeightUpdate:
        """Return no weights."""
        return WeightUpdate(version=self.version, tensors=list)

    async def save(self, folder: Path) -> None:
        """Save nothing."""

    async def load(self, folder: Path) -> None:
        """Load nothing."""

    async def close(self) -> None:
        """Hold nothing."""


class OneAtATime(Component):
    """An execution backend."""

    capacity = 1
    runner: EpisodeRunner

    async def start(self, runner: EpisodeRunner) -> None:
        """Keep the runner."""
        self.runner = runner

    async def submit(self, request: RolloutRequest) -> Trajectory:
        """Run the episode here."""
        return await self.runner(request)

    async def health(self) -> Mapping[str, float]:
        """Count nothing."""
        return {}

    async def close(self) -> None:
        """Hold nothing."""


class EmptyFolder(Component):
    """A model source."""

    def prepare(self, folder: Path, *, texts: Iterable[str], seed: int) -> Path:
        """Leave the folder empty."""
        return folder
