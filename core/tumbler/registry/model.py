"""The tables of `registry.toml` as pydantic models; knows the file's form and no component."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from tumbler.run.relevance import RelevanceRule
from tumbler.specs import BackendRole, ComponentKind

__all__ = [
    "ROLES",
    "SECTIONS",
    "AgentTable",
    "BackendsTable",
    "ComponentTable",
    "EvalFigures",
    "EvalTable",
    "ExpertFigures",
    "ExpertsTable",
    "LimitsTable",
    "PluginsTable",
    "Reference",
    "RegistryFile",
    "RlFigures",
    "RlTable",
    "RunTable",
    "SamplingTable",
    "SftFigures",
    "SftTable",
    "StageKind",
    "Table",
    "TeacherTable",
]

StageKind: TypeAlias = Literal["sft", "rl", "eval"]

SECTIONS: Mapping[str, ComponentKind] = {
    "envs": "environment",
    "algorithms": "algorithm",
    "agents": "agent",
    "models": "model",
    "backends": "backend",
}
"""Section of the file → kind of its components."""

ROLES: tuple[BackendRole, ...] = ("sandbox", "inference", "training", "execution", "gateway")


def _reference(value: object) -> object:
    if (isinstance(value, str) and value) or isinstance(value, dict):
        return value
    raise PydanticCustomError("reference", "expected the name of a table or of a component, or a table with `use`")


Reference: TypeAlias = Annotated[
    str | Mapping[str, JsonValue],
    PlainValidator(_reference),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "object"}]}),
]
"""A component of a run: a table's name, a component's id, or an inline table with `use` and settings."""


class Table(BaseModel):
    """What all tables of the file share: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class PluginsTable(Table):
    """Which installed plugins may load."""

    allow: tuple[str, ...] | None = None
    """Distributions that may load; leave it out for all that are installed."""
    disable: tuple[str, ...] = ()
    """Plugins that do not load."""
    require: tuple[str, ...] = ()
    """Distributions that must be installed, with versions if it matters: "tumbler-minigrid>=0.4"."""


class ComponentTable(Table):
    """A name of your own for a component and its settings; the other keys are the component's settings."""

    model_config = ConfigDict(extra="allow")

    use: str = Field(min_length=1)
    """The component: a bare name for one of Tumbler's own, `plugin/name` for any other."""


class AgentTable(ComponentTable):
    """An agent scaffold, and the context strategies that work for it."""

    context: tuple[Reference, ...] = ()
    """Context strategies in order, each an id or a table with `use` and settings."""


class BackendsTable(Table):
    """The backend of each role that the run needs."""

    sandbox: Reference | None = None
    """Where the agents' commands run."""
    inference: Reference | None = None
    """What serves the policy."""
    training: Reference | None = None
    """What takes the optimizer steps."""
    execution: Reference | None = None
    """Where the episodes run, and how many at a time."""
    gateway: Reference | None = None
    """What serves the policy to agents that are programs, by the chat APIs that they speak."""


class LimitsTable(Table):
    """Bounds of one episode."""

    turns: int = Field(default=32, ge=1)
    """Model calls."""
    seconds: float = Field(default=600.0, gt=0)
    """Wall time of the whole episode."""
    malformed: int = Field(default=4, ge=1)
    """Malformed replies after which the agent should give up."""
    clear_at_least: int = Field(default=0, ge=0)
    """Tokens that a rewrite of the context must free, or it is refused: each one costs the engine's cache."""


class SamplingTable(Table):
    """How the policy is sampled in rollouts."""

    max_tokens: int = Field(default=64, ge=1)
    """Tokens of one reply."""
    temperature: float = Field(default=1.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Probability mass to sample from; 1 keeps all."""
    top_k: int = Field(default=0, ge=0)
    """Most likely tokens to sample from; 0 keeps all."""


class SftFigures(Table):
    """The figures of the `sft` stages."""

    demonstrations: int = Field(default=1024, ge=1)
    """Demonstrations to collect."""
    steps: int = Field(default=200, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(default=32, ge=1)
    """Demonstrations in one step."""
    relevance: tuple[RelevanceRule, ...] = ()
    """Rules that find turns not worth imitating, in addition to what the environment and its expert mark:
    `repeated-call`, the same call with the same answer as before; `no-effect`, the answer of the turn before
    again; `undone`, what led back to an earlier answer; `after-success`, what came after the last reward."""
    checkpoint_every: int = Field(default=50, ge=0)
    """Steps between checkpoints; 0 keeps only the last."""


class SftTable(SftFigures):
    """Each `sft` stage: supervised training on demonstrations of the environment's expert."""

    env: Reference | None = None
    """The environment that gives the demonstrations; the run's own if left out."""


class RlFigures(Table):
    """The figures of the `rl` stages."""

    steps: int = Field(default=20, ge=1)
    """Training steps, each on the rollouts that the algorithm plans."""
    checkpoint_every: int = Field(default=5, ge=0)
    """Steps between checkpoints; 0 keeps only the last."""
    max_infra_failures: float = Field(default=0.2, ge=0, le=1)
    """Share of a step's rollouts that may fail for reasons of infrastructure before the run stops. Those for experts
    do not count: one that is lost leaves the old expert, or none."""
    attempts: int = Field(default=3, ge=1)
    """How often one rollout is tried."""
    collapse_patience: int = Field(default=5, ge=0)
    """Steps without any spread of rewards before the run stops; 0 never stops it."""
    stall_seconds: float = Field(default=900.0, ge=0)
    """Seconds without any progress (a rollout that ends, a token that is sampled) after which what hangs is written
    down and rollouts in flight for so long are given up and rolled again; after as long again the run ends. While
    the trainer works it is only written down. 0 never acts."""
    token_budget: int = Field(default=0, ge=0)
    """Tokens sampled by the policy after which the stage ends, however many steps are left: what algorithms are
    compared at. All of them count, also those of rollouts that are dropped, that fail for reasons of infrastructure,
    or that are made for experts. The step that spends them is finished. 0 sets no bound."""
    publish_every: int = Field(default=1, ge=1)
    """Steps after which the inference backend gets the new weights. More than 1 makes rollouts stale on purpose;
    algorithms with `old_policy = "snapshot"` then need as many `snapshots` in the training backend."""
    max_staleness: int = Field(default=0, ge=0)
    """How many steps before its own the rollouts of a step may begin, so that rollouts and training overlap. 0 rolls
    out and trains by turns."""
    order: Literal["plan", "arrival"] = "plan"
    """What a step trains: the groups that were planned for it, or as many of those that are complete first, so that
    no step waits for slow ones: they are trained later. Matters with `max_staleness`."""
    stale_chunks: Literal["mask", "keep"] = "mask"
    """What becomes of chunks that were sampled more than `max_staleness` policy versions ago, or `publish_every - 1`
    more: they are not trained, or left to the algorithm's correction. The other chunks of their trajectory are trained
    in any case."""
    redundant_rollouts: int = Field(default=0, ge=0)
    """Rollouts of each group beyond its size: once as many as the size have finished, the others are cut. This
    prefers short episodes; the figure `rollout/cut_bias` tells by how much. `order = "arrival"` does so in the first
    steps alone."""
    max_replacements: int | None = Field(default=None, ge=0)
    """Groups of a step that may be replaced by ones of other tasks when the algorithm refuses them; those
    refused beyond that are left out. As many as the step plans if left out; 0 replaces none."""
    pool: int = Field(default=0, ge=0)
    """Distinct training tasks: each step draws some that the present pass over them has not had. 0 asks the
    environment for new tasks in each step."""
    anchors: Literal["replay", "fork"] = "replay"
    """How a rollout gets to its anchor: by the expert's calls from the start, or in a copy of a sandbox that is
    there already, where environment and sandbox backend can do that."""

    @model_validator(mode="after")
    def _checkpoints_have_the_weights_that_sample(self) -> Self:
        if self.checkpoint_every % self.publish_every:
            raise ValueError(
                f"checkpoint_every = {self.checkpoint_every} with publish_every = {self.publish_every}: a run that "
                "resumes samples from its checkpoint's weights, so checkpoint_every must be a multiple of "
                "publish_every, or 0"
            )
        return self


class ExpertFigures(Table):
    """Where the expert trajectories come from, and how old they get."""

    source: Literal["environment", "self", "teacher"] = "environment"
    """Who gives them: the environment's expert; the policy itself, by its successes from the beginning of a
    task; or another model, by its successes."""
    refresh_every: int = Field(default=1, ge=0)
    """Steps after which a task's expert trajectory is made anew, if the task comes up and the attempts succeed;
    until then, and without success, the old one serves. 1 makes it anew each time, 0 never. It matters where
    tasks come up again, as those of a pool do."""
    attempts: int = Field(default=1, ge=0)
    """Episodes for each task whose expert trajectory is missing or due, beside the rollouts that are trained."""
    keep: Literal["shortest", "recent"] = "shortest"
    """Which success to keep of those that count: the one of the fewest chunks, or the last. Under `self` the
    rollouts that are trained count too, and under `recent` replace what is not due yet."""


class TeacherTable(Table):
    """Another model, whose successes are the expert trajectories; its tokenizer must equal the policy's."""

    inference: Reference | None = None
    """The inference backend that serves it; another instance of the run's own if left out."""
    model: Reference | None = None
    """Its model source; the model that the run starts from if left out."""


class ExpertsTable(ExpertFigures):
    """Expert trajectories, for algorithms that start rollouts inside of them."""

    teacher: TeacherTable | None = None
    """The model that gives them if the source is `teacher`."""


class RlTable(RlFigures):
    """Each `rl` stage: training on the policy's own episodes."""

    env: Reference | None = None
    """The environment to train in; the run's own if left out."""
    experts: ExpertsTable = ExpertsTable()
    """Where expert trajectories come from."""


class EvalFigures(Table):
    """The figures of the `eval` stages."""

    episodes: int = Field(default=200, ge=1)
    """Episodes in each environment."""
    split: Literal["train", "held-out"] = "held-out"
    """The split that the tasks come from."""
    temperature: float = Field(default=1.0, ge=0)
    """0 is greedy."""
    seed: int = 1000
    """Seed of tasks and sampling: equal seeds give equal tasks."""


class EvalTable(EvalFigures):
    """Each `eval` stage: episodes of the policy as it is."""

    envs: tuple[Reference, ...] = ()
    """The environments to evaluate in; the run's own if left out."""


class RunTable(Table):
    """A run: which components take part, the stages, and their figures."""

    extends: str | None = None
    """Another run to start from: tables merge by key, lists replace. That run extends none itself."""
    description: str = ""
    """What the run is for."""
    env: Reference | None = None
    """The environment. Every run has one, its own or inherited."""
    agent: Reference | None = None
    """The agent scaffold. Every run has one, its own or inherited."""
    algorithm: Reference | None = None
    """The algorithm; needed for `rl` stages."""
    model: Reference | None = None
    """The model source; left out if the inference backend brings its own model."""
    backends: BackendsTable = BackendsTable()
    """The compute backend of each role."""
    stages: tuple[StageKind, ...] = Field(default=(), min_length=1)
    """What to do, in order: any sequence of `sft`, `rl` and `eval`. Every run has some."""
    seed: int = 0
    """The seed from which all others of the run are derived."""
    limits: LimitsTable = LimitsTable()
    """Bounds of one episode."""
    sampling: SamplingTable = SamplingTable()
    """How the policy is sampled in rollouts."""
    sft: SftTable = SftTable()
    """Figures of the `sft` stages."""
    rl: RlTable = RlTable()
    """Figures of the `rl` stages."""
    eval: EvalTable = EvalTable()
    """Figures of the `eval` stages."""


class RegistryFile(Table):
    """The whole file."""

    format: Literal[1] = Field(default=1, alias="schema")
    """The version of the file's format."""
    plugins: PluginsTable = PluginsTable()
    """Which installed plugins may load."""
    envs: dict[str, ComponentTable] = {}
    """Environments."""
    algorithms: dict[str, ComponentTable] = {}
    """Algorithms."""
    agents: dict[str, AgentTable] = {}
    """Agent scaffolds."""
    models: dict[str, ComponentTable] = {}
    """Model sources."""
    backends: dict[str, ComponentTable] = {}
    """Compute backends."""
    runs: dict[str, RunTable] = {}
    """Runs."""
