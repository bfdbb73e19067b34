"""Which agent converses, with which context strategies: from the registry, from a trained run, or the defaults."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from tumbler.cli.sandboxes.reach import Shelf
from tumbler.contracts.context import ContextStrategy
from tumbler.contracts.conversation import ConversingAgent
from tumbler.contracts.values import JSON, JSONObject
from tumbler.errors import ComponentNotFoundError, ContractError, RegistryError, RunError, TumblerError
from tumbler.plugins import Component as OfferedComponent
from tumbler.plugins import PluginHost
from tumbler.plugins.defaults import default_component
from tumbler.registry import Registry, ResolvedComponent, ResolvedRun
from tumbler.registry.assembly import pipeline
from tumbler.registry.components import resolve_component
from tumbler.registry.model import RegistryFile
from tumbler.registry.overrides import apply_overrides
from tumbler.registry.problem import registry_error
from tumbler.registry.selection import Selection, inline, named
from tumbler.registry.source import Report, Source
from tumbler.rollout.context import NamedStrategy
from tumbler.run.files import read_lines
from tumbler.trajectory import Component, trajectory_from_json

__all__ = ["Chosen", "choose", "differences", "of_run", "recorded_differences", "trained"]

_SHOWN: Final = 10


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """An agent and its context strategies, not built yet."""

    agent: ResolvedComponent
    context: tuple[ResolvedComponent, ...]

    def build_agent(self, host: PluginHost) -> ConversingAgent:
        """Return the agent; raise `ContractError` where it cannot converse."""
        built = self.agent.build(host)
        if not isinstance(built, ConversingAgent):
            raise ContractError(
                f"the agent {self.agent.label!r} works in episodes alone: it has no `converse`; choose another with "
                "--agent, or leave --agent out"
            )
        return built

    def build_context(self, host: PluginHost) -> Sequence[NamedStrategy]:
        """Return the strategies."""
        return [
            NamedStrategy(name=each.id, strategy=cast("ContextStrategy", each.build(host))) for each in self.context
        ]

    @property
    def components(self) -> tuple[Component, ...]:
        """Return agent and strategies as trajectories name them, the agent first."""
        return tuple(
            Component(id=each.id, version=each.version, settings_hash=each.settings_hash)
            for each in (self.agent, *self.context)
        )


def choose(shelf: Shelf, name: str | None, overrides: Sequence[str]) -> Chosen:
    """Return the agent of that name, a table under [agents] or a component, with `KEY=VALUE` settings over its own.

    None stands for the installed default, and never for a table. So do context strategies that are not named: without
    any, a long conversation would come to an end. Raises `RegistryError` with all that is wrong.
    """
    registry = shelf.registry or Registry(
        source=Source(file="the command line", lines={}), tables=RegistryFile(), document={}
    )
    selection = _default_agent(shelf.host) if name is None else named(registry, "agent", name, ("agents", name))
    if selection is None:
        raise ComponentNotFoundError(f"the table [agents.{name}] of {registry.source.file} has mistakes: tumbler check")
    if overrides:
        settings: dict[str, Any] = dict(selection.settings)
        apply_overrides(settings, overrides)
        selection = _over(selection, settings)
    report = Report(registry.source)
    agent = resolve_component(selection, shelf.host, report)
    strategies = list(pipeline(registry, selection).values())
    if agent is not None and "context" not in selection.settings:
        strategies = [_default_strategy(shelf.host)]
    context = [resolve_component(each, shelf.host, report) for each in strategies]
    if agent is None or report.problems:
        raise _error(report, shelf, name)
    return Chosen(agent=agent, context=tuple(each for each in context if each is not None))


def of_run(resolved: ResolvedRun) -> Chosen:
    """Return the agent that a run has trained, with the run's own strategies and settings."""
    return Chosen(agent=resolved.agent, context=resolved.context)


def differences(chosen: Chosen, trained: Chosen) -> Sequence[str]:
    """Return in words how an agent is set otherwise than the one that was trained."""
    return list(_differences(chosen, trained))


def recorded_differences(folder: Path, chosen: Chosen) -> Sequence[str]:
    """Return how an agent differs from what the run's trajectories say that they were made with.

    Of each training stage the first trajectory counts; a run that has none yet differs in nothing.
    """
    found: list[str] = []
    for file in sorted(folder.glob("stages/*/trajectories.jsonl")):
        first = next(iter(read_lines(file)), None)
        if first is None or file.parent.name.endswith("-eval"):
            continue
        header = trajectory_from_json(first).header
        recorded = (header.agent, *header.context)
        now = chosen.components
        if recorded != now:
            found.append(
                f"stage {file.parent.name} was rolled out with {_listed(recorded)}, and this is {_listed(now)}"
            )
    return found


def _default_agent(host: PluginHost) -> Selection:
    found = default_component(host, "agent", option="--agent NAME", fits=lambda each: _converses(host, each))
    return inline("agent", {"use": found.id}, ("agents", found.id))


def _converses(host: PluginHost, component: OfferedComponent) -> bool:
    try:
        return issubclass(host.loaded("agent", component.id), ConversingAgent)
    except TumblerError:  # what cannot be loaded is no candidate; asked for by its name, it says why
        return False


def _default_strategy(host: PluginHost) -> Selection:
    found = default_component(host, "context-strategy", option="--set 'context=[\"NAME\"]'")
    return inline("context-strategy", {"use": found.id}, ("context",))


def _error(report: Report, shelf: Shelf, name: str | None) -> RegistryError:
    """Return all that is wrong; where no registry was read, a name may be meant for a table of one."""
    error = registry_error(report.problems)
    if name is None or shelf.registry is not None or name in {each.id for each in shelf.host.components("agent")}:
        return error
    advice = "for a table under [agents], say which registry has it: --registry registry.toml"
    return RegistryError(f"{error}\n{advice}", problems=error.problems)


def _over(selection: Selection, settings: JSONObject) -> Selection:
    return Selection(
        kind=selection.kind,
        label=selection.label,
        id=selection.id,
        settings=settings,
        layers=((("--set",), settings), *selection.layers),
    )


def _differences(chosen: Chosen, trained: Chosen) -> Iterator[str]:
    if (chosen.agent.id, chosen.agent.version) != (trained.agent.id, trained.agent.version):
        yield f"the agent is {_release(chosen.agent)}, and {_release(trained.agent)} was trained"
    else:
        yield from _settings(f"agent {chosen.agent.id}", chosen.agent.settings, trained.agent.settings)
    ids = [[_release(each) for each in side.context] for side in (chosen, trained)]
    if ids[0] != ids[1]:
        yield f"the context strategies are {', '.join(ids[0]) or 'none'}, and were {', '.join(ids[1]) or 'none'}"
        return
    for now, then in zip(chosen.context, trained.context, strict=True):
        yield from _settings(f"context strategy {now.id}", now.settings, then.settings)


def _settings(what: str, now: JSONObject, then: JSONObject) -> Iterator[str]:
    for key in sorted({*now, *then}):
        if now.get(key) != then.get(key):
            yield f"{what}: {key} is {_short(now.get(key))}, and was {_short(then.get(key))}"


def _release(component: ResolvedComponent) -> str:
    return f"{component.id} {component.version}"


def _short(value: JSON) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _listed(components: Sequence[Component]) -> str:
    return ", ".join(f"{each.id} {each.version} ({each.settings_hash})" for each in components)


def trained(folder: Path, chosen: Chosen, wanted: Chosen | None, *, anyway: bool) -> Sequence[str]:
    """Return the warnings about an agent that is not set as its model was trained.

    Raises `RunError` where it differs, unless that is wanted `anyway`.
    """
    found = [*differences(wanted or chosen, chosen), *recorded_differences(folder, wanted or chosen)]
    if found and not anyway:
        listing = "\n".join(f"  - {each}" for each in found[:_SHOWN])
        raise RunError(
            f"the agent differs from the one that {folder} has trained:\n{listing}\n"
            "leave --agent and --set out to have the trained one, or say --anyway to go on with another"
        )
    return found
