"""The tables of `registry.toml` as pydantic models; knows the file's form and no component."""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from tumbler.specs import BackendRole, ComponentKind

__all__ = [
    "ROLES",
    "SECTIONS",
    "AgentTable",
    "BackendsTable",
    "ComponentTable",
    "EvalFigures",
    "EvalTable",
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

ROLES: tuple[BackendRole, ...] = ("sandbox", "inference", "training", "execution")


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


class LimitsTable(Table):
    """Bounds of one episode."""

    turns: int = Field(default=32, ge=1)
    """Model calls."""
    seconds: float = Field(default=600.0, gt=0)
    """Wall time of the whole episode."""
    malformed: int = Field(default=4, ge=1)
    """Malformed replies after which the agent should give up."""


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
    """Share of a step's rollouts that may fail for reasons of infrastructure before the run stops."""
    attempts: int = Field(default=3, ge=1)
    """How often one rollout is tried."""
    collapse_patience: int = Field(default=5, ge=0)
    """Steps without any spread of rewards before the run stops; 0 never stops it."""


class RlTable(RlFigures):
    """Each `rl` stage: training on the policy's own episodes."""

    env: Reference | None = None
    """The environment to train in; the run's own if left out."""


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
