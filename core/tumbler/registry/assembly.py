"""Puts a resolved run together from its components and figures; reports what is wrong on the way."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tumbler.contracts.agent import Limits
from tumbler.contracts.inference import Sampling
from tumbler.registry.components import resolve_component
from tumbler.registry.demands import check_demands
from tumbler.registry.load import Registry
from tumbler.registry.model import ROLES, RunTable
from tumbler.registry.paths import Path
from tumbler.registry.problem import suggest
from tumbler.registry.resolved import (
    EvalStage,
    ExpertSource,
    PluginPolicy,
    ResolvedComponent,
    ResolvedRun,
    RlStage,
    SftStage,
)
from tumbler.registry.selection import EffectiveRun, Selection, listed
from tumbler.registry.source import Report
from tumbler.specs import ComponentKind

if TYPE_CHECKING:
    from tumbler.plugins import PluginHost

__all__ = ["assemble", "pipeline"]


def assemble(registry: Registry, name: str, host: "PluginHost", report: Report) -> ResolvedRun | None:
    """Return the run of that name, which must be among the well-formed ones; its problems go to the report.

    With problems in the report, what is returned is not complete; it is None without an environment
    or an agent.
    """
    run = EffectiveRun(registry, name)
    if _extends_rightly(registry, name, report):
        _check_complete(run, report)
    parts = _Parts(registry=registry, run=run, host=host, report=report)
    env, agent = parts.one("environment", "env"), parts.one("agent", "agent")
    algorithm, model = parts.one("algorithm", "algorithm"), parts.one("model", "model")
    context, backends, stage_envs = parts.context(), parts.backends(), parts.stage_envs()
    experts = parts.experts(backends.get("inference"))
    check_demands(run, parts.placed, host, report)
    if env is None or agent is None:
        return None
    env, *labelled = _labelled([env, *(each or env for each in stage_envs)])
    sft, rl, evaluation = _stages(run.table, experts, *labelled)
    return ResolvedRun(
        name=name,
        description=run.table.description,
        seed=run.table.seed,
        stages=run.table.stages,
        env=env,
        agent=agent,
        context=context,
        algorithm=algorithm,
        model=model,
        backends=backends,
        limits=Limits(**run.table.limits.model_dump()),
        sampling=Sampling(**run.table.sampling.model_dump()),
        sft=sft,
        rl=rl,
        eval=evaluation,
        plugins=PluginPolicy(**registry.tables.plugins.model_dump()),
        versions=host.versions(),
    )


def _stages(
    table: RunTable,
    experts: ExpertSource,
    sft_env: ResolvedComponent,
    rl_env: ResolvedComponent,
    *eval_envs: ResolvedComponent,
) -> tuple[SftStage, RlStage, EvalStage]:
    return (
        SftStage(env=sft_env, **table.sft.model_dump(exclude={"env"})),
        RlStage(env=rl_env, experts=experts, **table.rl.model_dump(exclude={"env", "experts"})),
        EvalStage(envs=eval_envs, **table.eval.model_dump(exclude={"envs"})),
    )


def pipeline(registry: Registry, agent: Selection) -> dict[Path, Selection]:
    """Return the context strategies that an agent's table lists, each with its place."""
    return listed(registry, "context-strategy", agent.settings.get("context"), agent.locate(("context",)))


@dataclass(kw_only=True)
class _Parts:
    """Resolves the components of one run and remembers where each is asked for."""

    registry: Registry
    run: EffectiveRun
    host: "PluginHost"
    report: Report
    placed: dict[Path, ResolvedComponent] = field(default_factory=dict)

    def one(self, kind: ComponentKind, *keys: str) -> ResolvedComponent | None:
        selection = self.run.select(kind, *keys)
        return None if selection is None else self._resolved(selection, self.run.locate(*keys))

    def each(self, selections: Mapping[Path, Selection]) -> tuple[ResolvedComponent, ...]:
        found = [self._resolved(selection, place) for place, selection in selections.items()]
        return tuple(component for component in found if component is not None)

    def context(self) -> tuple[ResolvedComponent, ...]:
        agent = self.run.select("agent", "agent")
        return () if agent is None else self.each(pipeline(self.registry, agent))

    def backends(self) -> dict[str, ResolvedComponent]:
        return {role: found for role in ROLES if (found := self.one("backend", "backends", role)) is not None}

    def stage_envs(self) -> list[ResolvedComponent | None]:
        """Return the environments of sft, of rl, and each of eval; None for the run's own."""
        eval_envs = self.each(self.run.select_each("environment", "eval", "envs"))
        return [self.one("environment", "sft", "env"), self.one("environment", "rl", "env"), *(eval_envs or [None])]

    def experts(self, inference: ResolvedComponent | None) -> ExpertSource:
        """Return where expert trajectories come from; `inference` is the run's own backend."""
        table, place = self.run.table.rl.experts, ("rl", "experts", "teacher")
        if table.source == "teacher" and table.teacher is None:
            remedy = 'add a teacher: teacher = { model = … }, or choose another source: "environment", "self"'
            self.report.add(self.run.locate(*place), "the source is teacher and no teacher is named", remedy)
        teacher = self.one("backend", *place, "inference") or inference
        model = self.one("model", *place, "model")
        if table.source != "teacher":
            teacher = model = None
        return ExpertSource(teacher=teacher, teacher_model=model, **table.model_dump(exclude={"teacher"}))

    def _resolved(self, selection: Selection, path: Path) -> ResolvedComponent | None:
        component = resolve_component(selection, self.host, self.report)
        if component is not None:
            self.placed[path] = component
        return component


def _extends_rightly(registry: Registry, name: str, report: Report) -> bool:
    runs = registry.tables.runs
    base = runs[name].extends
    if base is None:
        return True
    path = ("runs", name, "extends")
    if base not in runs:
        if not registry.declares("runs", base):
            report.add(path, f"there is no run {base!r}", suggest(base, set(runs) - {name}))
        return False
    if runs[base].extends is not None:
        itself = f"the run {base!r} extends {runs[base].extends!r} in turn"
        message = "the run extends itself" if base == name else itself
        report.add(path, message, "extend a run that extends none")
        return False
    return True


def _check_complete(run: EffectiveRun, report: Report) -> None:
    remedies = {
        "env": "add env = … with the name of an environment",
        "agent": "add agent = … with the name of an agent scaffold",
        "stages": "add stages = […] of 'sft', 'rl' and 'eval'",
    }
    for key, remedy in remedies.items():
        if not run.declares(key):
            report.add(run.locate(key), "missing", remedy)


def _labelled(envs: list[ResolvedComponent]) -> list[ResolvedComponent]:
    """Give different environments different labels: `maze`, `maze-2`."""
    taken: dict[str, ResolvedComponent] = {}
    labelled = []
    for env in envs:
        label, count = env.label, 1
        while taken.setdefault(label, env) != env:
            count += 1
            label = f"{env.label}-{count}"
        labelled.append(replace(env, label=label))
    return labelled
