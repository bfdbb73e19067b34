"""Reads `run.json`: checks its form as a whole, and says what changed since it was written."""

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Literal

from pydantic import Field, JsonValue

from tumbler.contracts.agent import Limits
from tumbler.contracts.inference import Sampling
from tumbler.contracts.values import JSONObject
from tumbler.registry.model import (
    EvalFigures,
    ExpertFigures,
    LimitsTable,
    PluginsTable,
    RlFigures,
    SamplingTable,
    SftFigures,
    StageKind,
    Table,
)
from tumbler.registry.paths import dotted
from tumbler.registry.problem import Problem, registry_error
from tumbler.registry.resolved import (
    EvalStage,
    ExpertSource,
    PluginPolicy,
    ResolvedComponent,
    ResolvedRun,
    RlStage,
    SftStage,
)
from tumbler.registry.validation import validate
from tumbler.specs import BackendRole, ComponentKind

if TYPE_CHECKING:
    from tumbler.errors import RegistryError
    from tumbler.plugins import PluginHost

__all__ = ["load_resolved", "run_from_json", "version_drift"]


def load_resolved(path: "str | PathLike[str]") -> ResolvedRun:
    """Return the run that a `run.json` holds; raise `RegistryError` with every problem of the file."""
    file = str(path)
    try:
        value = json.loads(FilePath(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _unusable(file, "there is no such file", "name the run.json in the folder of a run") from error
    except OSError as error:
        raise _unusable(file, f"cannot be read: {error.strerror}", "mend its access rights or name a file") from error
    except ValueError as error:
        remedy = "restore the file, or start the run anew by its name"
        raise _unusable(file, f"not JSON: {error}", remedy) from error
    if not isinstance(value, dict):
        raise _unusable(file, "not a resolved run", "name the run.json in the folder of a run")
    return run_from_json(value, file=file)


def run_from_json(value: JSONObject, *, file: str = "run.json") -> ResolvedRun:
    """Return the run of a JSON object that came from `file`; raise `RegistryError` with every problem."""
    record, mistakes = validate(_RunRecord, value)
    if record is None:
        raise registry_error(
            Problem(file=file, path=dotted(each.path), message=each.message, remedy=each.remedy) for each in mistakes
        )
    return record.run()


def version_drift(resolved: ResolvedRun, host: "PluginHost") -> list[str]:
    """Return one warning for each plugin that is no longer what it was when the run was resolved."""
    now = host.versions()
    warnings = []
    for plugin, release in sorted(resolved.versions.items()):
        if plugin not in now:
            warnings.append(f"plugin {plugin!r} was {' '.join(release)} and is not loaded now")
        elif now[plugin] != release:
            warnings.append(f"plugin {plugin!r} was {' '.join(release)} and is {' '.join(now[plugin])} now")
    return warnings


def _unusable(file: str, message: str, remedy: str) -> "RegistryError":
    return registry_error([Problem(file=file, path="", message=message, remedy=remedy)])


class _ComponentRecord(Table):
    kind: ComponentKind
    label: str
    id: str
    plugin: str
    distribution: str
    version: str
    settings: dict[str, JsonValue]

    def component(self) -> ResolvedComponent:
        return ResolvedComponent(**self.model_dump())


class _SftRecord(SftFigures):
    env: _ComponentRecord


class _ExpertsRecord(ExpertFigures):
    teacher: _ComponentRecord | None = None
    teacher_model: _ComponentRecord | None = None

    def source_of_experts(self) -> ExpertSource:
        return ExpertSource(
            **self.model_dump(exclude={"teacher", "teacher_model"}),
            teacher=None if self.teacher is None else self.teacher.component(),
            teacher_model=None if self.teacher_model is None else self.teacher_model.component(),
        )


class _RlRecord(RlFigures):
    env: _ComponentRecord
    experts: _ExpertsRecord = _ExpertsRecord()

    def stage(self) -> RlStage:
        figures = self.model_dump(exclude={"env", "experts"})
        return RlStage(env=self.env.component(), experts=self.experts.source_of_experts(), **figures)


class _EvalRecord(EvalFigures):
    envs: tuple[_ComponentRecord, ...]


class _RunRecord(Table):
    version: Literal[1] = Field(alias="schema")
    name: str
    description: str
    seed: int
    stages: tuple[StageKind, ...]
    env: _ComponentRecord
    agent: _ComponentRecord
    context: tuple[_ComponentRecord, ...]
    algorithm: _ComponentRecord | None
    model: _ComponentRecord | None
    backends: Mapping[BackendRole, _ComponentRecord]
    limits: LimitsTable
    sampling: SamplingTable
    sft: _SftRecord
    rl: _RlRecord
    eval: _EvalRecord
    plugins: PluginsTable
    versions: dict[str, tuple[str, str]]

    def run(self) -> ResolvedRun:
        return ResolvedRun(
            name=self.name,
            description=self.description,
            seed=self.seed,
            stages=self.stages,
            env=self.env.component(),
            agent=self.agent.component(),
            context=tuple(each.component() for each in self.context),
            algorithm=None if self.algorithm is None else self.algorithm.component(),
            model=None if self.model is None else self.model.component(),
            backends={role: each.component() for role, each in self.backends.items()},
            limits=Limits(**self.limits.model_dump()),
            sampling=Sampling(**self.sampling.model_dump()),
            sft=SftStage(env=self.sft.env.component(), **self.sft.model_dump(exclude={"env"})),
            rl=self.rl.stage(),
            eval=EvalStage(
                envs=tuple(each.component() for each in self.eval.envs), **self.eval.model_dump(exclude={"envs"})
            ),
            plugins=PluginPolicy(**self.plugins.model_dump()),
            versions=self.versions,
        )
