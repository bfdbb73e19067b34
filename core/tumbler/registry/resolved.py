"""A run with everything decided: what is built, written to `run.json`, and repeated from it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

from tumbler.contracts.agent import Limits
from tumbler.contracts.inference import Sampling
from tumbler.contracts.values import JSONObject
from tumbler.registry.problem import Problem, registry_error
from tumbler.registry.secret_references import reveal
from tumbler.run.relevance import RelevanceRule
from tumbler.specs import ComponentKind

if TYPE_CHECKING:
    from tumbler.plugins import PluginHost

__all__ = [
    "EvalStage",
    "ExpertSource",
    "PluginPolicy",
    "ResolvedComponent",
    "ResolvedRun",
    "RlStage",
    "SftStage",
    "StageKind",
]

StageKind = Literal["sft", "rl", "eval"]


@dataclass(frozen=True, kw_only=True)
class ResolvedComponent:
    """One component of a run and its settings."""

    kind: ComponentKind
    label: str
    """The registry's own name for it; the id if it has none. Environments of a run differ in it."""
    id: str
    """Bare for a first-party component, else `plugin/name`."""
    plugin: str
    distribution: str
    version: str
    """Of the distribution."""
    settings: JSONObject
    """Complete, defaults written out; secrets as references, `{"env": "NAME"}`."""

    @property
    def settings_hash(self) -> str:
        """Return 12 hexadecimal digits that are equal for equal settings."""
        canonical = json.dumps(self.settings, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def build(self, host: "PluginHost") -> object:
        """Return the component, built from its settings with secrets read from the environment.

        Raises `RegistryError` if a variable is not set or the settings are refused, and `PluginError`
        if the component is not there or needs a package that is not installed.
        """
        from tumbler.registry.validation import validate

        model = host.settings_model(self.kind, self.id)
        settings, mistakes = validate(model, reveal(self.settings))
        if settings is None:
            raise registry_error(
                Problem(
                    file=f"{self.kind} {self.label}",
                    path=".".join(str(item) for item in mistake.path),
                    message=mistake.message,
                    remedy=mistake.remedy,
                )
                for mistake in mistakes
            )
        return host.build(self.kind, self.id, settings)


@dataclass(frozen=True, kw_only=True)
class SftStage:
    """What each `sft` stage does; the registry's `sft` table says what the figures mean."""

    env: ResolvedComponent
    demonstrations: int
    steps: int
    batch_size: int
    checkpoint_every: int
    relevance: tuple[RelevanceRule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ExpertSource:
    """Where expert trajectories come from; the registry's `rl.experts` table says what the figures mean."""

    source: Literal["environment", "self", "teacher"] = "environment"
    refresh_every: int = 1
    attempts: int = 1
    keep: Literal["shortest", "recent"] = "shortest"
    teacher: ResolvedComponent | None = None
    """The inference backend of the teacher; None unless the source is `teacher`."""
    teacher_model: ResolvedComponent | None = None
    """The teacher's model source; None for the model that the run starts from."""


@dataclass(frozen=True, kw_only=True)
class RlStage:
    """What each `rl` stage does; the registry's `rl` table says what the figures mean."""

    env: ResolvedComponent
    steps: int
    checkpoint_every: int
    max_infra_failures: float
    attempts: int
    collapse_patience: int
    stall_seconds: float = 900.0
    token_budget: int = 0
    publish_every: int = 1
    max_staleness: int = 0
    order: Literal["plan", "arrival"] = "plan"
    stale_chunks: Literal["mask", "keep"] = "mask"
    redundant_rollouts: int = 0
    max_replacements: int | None = None
    pool: int = 0
    anchors: Literal["replay", "fork"] = "replay"
    experts: ExpertSource = ExpertSource()


@dataclass(frozen=True, kw_only=True)
class EvalStage:
    """What each `eval` stage does; the registry's `eval` table says what the figures mean."""

    envs: tuple[ResolvedComponent, ...]
    episodes: int
    split: str
    temperature: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class PluginPolicy:
    """The `[plugins]` table."""

    allow: tuple[str, ...] | None = None
    disable: tuple[str, ...] = ()
    require: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ResolvedRun:
    """Everything that decides what a run does."""

    schema: int = 1
    """The version of this form."""
    name: str
    description: str
    seed: int
    stages: tuple[StageKind, ...]
    env: ResolvedComponent
    agent: ResolvedComponent
    context: tuple[ResolvedComponent, ...]
    algorithm: ResolvedComponent | None
    model: ResolvedComponent | None
    backends: Mapping[str, ResolvedComponent]
    """Role → backend."""
    limits: Limits
    sampling: Sampling
    sft: SftStage
    rl: RlStage
    eval: EvalStage
    plugins: PluginPolicy = PluginPolicy()
    versions: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Plugin → distribution and version, of all that were loaded."""

    def to_json(self) -> JSONObject:
        """Return the run as a JSON object; `run_from_json` gives an equal run back."""
        value: JSONObject = json.loads(json.dumps(asdict(self)))
        return value
