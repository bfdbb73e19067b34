"""Checks a registry as a whole or one run of it, and resolves runs."""

from typing import TYPE_CHECKING

from tumbler.plugins import check_requirements
from tumbler.registry.assembly import assemble, pipeline
from tumbler.registry.components import resolve_component
from tumbler.registry.load import Registry
from tumbler.registry.model import SECTIONS
from tumbler.registry.problem import Problem, registry_error, suggest
from tumbler.registry.resolved import ResolvedRun
from tumbler.registry.selection import inline
from tumbler.registry.source import Report

if TYPE_CHECKING:
    from tumbler.plugins import PluginHost

__all__ = ["check_registry", "check_run", "resolve_run"]


def check_registry(registry: Registry, host: "PluginHost") -> list[Problem]:
    """Return every problem of every table and run.

    Those of severity `missing-extra` say that something which a run uses is not installed here; the
    file itself may be right.
    """
    if not registry.readable:
        return list(registry.problems)
    report = _begin(registry)
    for section, kind in SECTIONS.items():
        for name, table in getattr(registry.tables, section).items():
            selection = inline(kind, table.model_dump(exclude_unset=True), (section, name))
            resolve_component(selection, host, report)
            if kind == "agent":
                for strategy in pipeline(registry, selection).values():
                    resolve_component(strategy, host, report)
    for name in registry.tables.runs:
        assemble(registry, name, host, report)
    return _ordered(registry, report)


def check_run(registry: Registry, name: str, host: "PluginHost") -> list[Problem]:
    """Return every problem of the file's form, of one run, and of the tables that it uses."""
    return _resolve(registry, name, host)[1]


def resolve_run(registry: Registry, name: str, host: "PluginHost") -> ResolvedRun:
    """Return the run with everything decided; raise `RegistryError` with all its problems.

    That a package is not installed is no problem here: building the component says so.
    """
    resolved, problems = _resolve(registry, name, host)
    errors = [problem for problem in problems if problem.severity == "error"]
    if resolved is None or errors:
        raise registry_error(errors)
    return resolved


def _resolve(registry: Registry, name: str, host: "PluginHost") -> tuple[ResolvedRun | None, list[Problem]]:
    if not registry.readable:
        return None, list(registry.problems)
    report = _begin(registry)
    resolved = None
    if name in registry.tables.runs:
        resolved = assemble(registry, name, host, report)
    elif not registry.declares("runs", name):
        report.add(("runs", name), "there is no such run", suggest(name, registry.tables.runs))
    return resolved, _ordered(registry, report)


def _ordered(registry: Registry, report: Report) -> list[Problem]:
    return sorted([*registry.problems, *report.problems], key=lambda problem: problem.line or 0)


def _begin(registry: Registry) -> Report:
    report = Report(registry.source)
    for problem in check_requirements(registry.tables.plugins.require):
        message, _, remedy = problem.partition("; ")
        report.add(("plugins", "require"), message, remedy or "write it like 'tumbler-minigrid>=0.4'")
    return report
