"""Builds what a resolved run names: backends, environments, agent, strategies. Starts nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from tumbler.contracts.agent import Agent
from tumbler.contracts.algorithm import Algorithm
from tumbler.contracts.context import ContextStrategy
from tumbler.contracts.environment import Environment
from tumbler.contracts.execution import ExecutionBackend
from tumbler.contracts.gateway import ModelGateway
from tumbler.contracts.inference import InferenceBackend, TextTokenizer
from tumbler.contracts.sandbox import SandboxBackend
from tumbler.contracts.training import TrainingBackend
from tumbler.errors import RunError
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedComponent, ResolvedRun
from tumbler.rollout.context import NamedStrategy
from tumbler.rollout.runner import EpisodeParts, NamedEnvironment
from tumbler.run.provenance import Makers, component_of

__all__ = ["Backends", "build_algorithm", "build_backends", "build_environments", "environment_key", "episode_parts"]


@dataclass(frozen=True, kw_only=True)
class Backends:
    """The run's backends, built but not started."""

    sandbox: SandboxBackend | None
    inference: InferenceBackend
    training: TrainingBackend | None
    execution: ExecutionBackend
    teacher: InferenceBackend | None = None
    """Serves the teacher, in an instance of its own; None if the run has no teacher or nothing to teach."""
    gateway: ModelGateway | None = None
    """Serves the policy to agents that are programs."""


def environment_key(component: ResolvedComponent) -> str:
    """Return the name under which an environment with these settings is known in a run."""
    return f"{component.label}@{component.settings_hash}"


def build_backends(resolved: ResolvedRun, host: PluginHost) -> Backends:
    """Build each backend once, also one that serves two roles."""
    built: dict[str, object] = {}
    shared: dict[tuple[str, str], object] = {}
    for role, component in resolved.backends.items():
        key = (component.label, component.settings_hash)
        if key not in shared:
            shared[key] = component.build(host)
        built[role] = shared[key]
    for role, example in (("execution", "local"), ("inference", "transformers")):
        if role not in built:
            raise RunError(f'run {resolved.name!r} names no {role} backend; add one: backends.{role} = "{example}"')
    return Backends(
        sandbox=cast("SandboxBackend | None", built.get("sandbox")),
        inference=cast("InferenceBackend", built["inference"]),
        training=cast("TrainingBackend | None", built.get("training")),
        execution=cast("ExecutionBackend", built["execution"]),
        teacher=_build_teacher(resolved, host),
        gateway=cast("ModelGateway | None", built.get("gateway")),
    )


def _build_teacher(resolved: ResolvedRun, host: PluginHost) -> InferenceBackend | None:
    component = resolved.rl.experts.teacher
    if component is None or "rl" not in resolved.stages:
        return None
    return cast("InferenceBackend", component.build(host))


def build_environments(resolved: ResolvedRun, host: PluginHost) -> dict[str, NamedEnvironment]:
    """Return every environment that a stage of the run uses: `environment_key` → how to build it."""
    components = [resolved.env, resolved.sft.env, resolved.rl.env, *resolved.eval.envs]
    return {
        environment_key(component): NamedEnvironment(
            build=_builder(component, host), component=component_of(component, host)
        )
        for component in components
    }


def build_algorithm(resolved: ResolvedRun, host: PluginHost) -> Algorithm | None:
    """Build the run's algorithm, if it names one."""
    return None if resolved.algorithm is None else cast("Algorithm", resolved.algorithm.build(host))


def episode_parts(
    resolved: ResolvedRun,
    host: PluginHost,
    environments: dict[str, NamedEnvironment],
    *,
    tokenizer: TextTokenizer,
    inference: InferenceBackend | None,
    sandboxes: SandboxBackend | None,
    teacher: InferenceBackend | None = None,
    gateway: ModelGateway | None = None,
) -> EpisodeParts:
    """Build what all episodes of the run share."""
    strategies = [
        NamedStrategy(name=each.id, strategy=cast("ContextStrategy", each.build(host))) for each in resolved.context
    ]
    makers = Makers.of(resolved, host)
    return EpisodeParts(
        environments=environments,
        agent=cast("Agent", resolved.agent.build(host)),
        agent_component=makers.agent,
        strategies=strategies,
        strategy_components=makers.context,
        tokenizer=tokenizer,
        inference=inference,
        sandboxes=sandboxes,
        limits=resolved.limits,
        run=resolved.name,
        teacher=teacher,
        gateway=gateway,
    )


def _builder(component: ResolvedComponent, host: PluginHost) -> Callable[[], Environment]:
    return lambda: cast("Environment", component.build(host))
