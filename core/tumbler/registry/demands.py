"""Checks that a run has what its stages and components need; knows roles and extras, no settings."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from tumbler.registry.extras import missing_packages
from tumbler.registry.model import ROLES, StageKind
from tumbler.registry.paths import Path
from tumbler.registry.resolved import ResolvedComponent
from tumbler.registry.selection import EffectiveRun
from tumbler.registry.source import Report
from tumbler.specs import BackendRole, BackendSpec

if TYPE_CHECKING:
    from tumbler.plugins import PluginHost

__all__ = ["Placed", "check_demands"]

Placed: TypeAlias = Mapping[Path, ResolvedComponent]
"""Where a run asks for a component → the component."""

_STAGE_ROLES: Mapping[StageKind, tuple[BackendRole, ...]] = {
    "sft": ("inference", "training", "execution"),
    "rl": ("inference", "training", "execution"),
    "eval": ("inference", "execution"),
}


def check_demands(run: EffectiveRun, placed: Placed, host: "PluginHost", report: Report) -> None:
    """Report what the run's stages and components need and the run does not name, or is not installed."""
    named: list[BackendRole] = [role for role in ROLES if run.declares("backends", role)]
    _check_stages(run, named, report)
    for path, component in placed.items():
        spec = host.component(component.kind, component.id).spec
        if component.kind != "algorithm" or "rl" in run.table.stages:
            _check_roles(f"{component.kind} {component.id}", spec.needs, named, path, report)
        if isinstance(spec, BackendSpec) and path[-1] not in spec.roles:
            report.add(
                path,
                f"the backend {component.id} cannot do {path[-1]}; it does {', '.join(spec.roles)}",
                f"name one that does: {_that_do(str(path[-1]), host)}",
            )
        if spec.extra is not None:
            _check_extra(component, spec.extra, path, report)


def _check_stages(run: EffectiveRun, named: Iterable[BackendRole], report: Report) -> None:
    stages = run.table.stages
    for kind in dict.fromkeys(stages):
        _check_roles(f"the stage {kind}", _STAGE_ROLES[kind], named, run.locate("stages"), report)
    if "rl" in stages and not run.declares("algorithm"):
        report.add(run.locate("stages"), "the stage rl needs an algorithm; the run names none", "add algorithm = …")


def _check_roles(
    who: str, needs: Iterable[BackendRole], named: Iterable[BackendRole], path: Path, report: Report
) -> None:
    for role in needs:
        if role not in named:
            report.add(path, f"{who} needs {role}; the run names none", f"add {role} = … to the run's backends")


def _that_do(role: str, host: "PluginHost") -> str:
    backends = host.components("backend")
    able = [each.id for each in backends if isinstance(each.spec, BackendSpec) and role in each.spec.roles]
    return ", ".join(able[:10]) or "none is installed"


def _check_extra(component: ResolvedComponent, extra: str, path: Path, report: Report) -> None:
    missing = missing_packages(component.distribution, extra)
    if missing:
        report.add(
            path,
            f"{component.kind} {component.id} needs {', '.join(missing)}, not installed here",
            f"install with: pip install '{component.distribution}[{extra}]'",
            severity="missing-extra",
        )
