"""What a new plugin's templates need to know of each kind of component."""

from collections.abc import Mapping
from dataclasses import dataclass

from tumbler.specs import ComponentKind

__all__ = ["KIND_PARTS", "KindParts"]


@dataclass(frozen=True, kw_only=True)
class KindParts:
    """Names and lines that differ from kind to kind."""

    module: str
    """The component's module in the package."""
    hook: str
    spec: str
    """The spec's class in `tumbler.specs`."""
    contract: str
    """The Protocol, as `module.Class` of `tumbler.contracts`."""
    summary: str
    arguments: tuple[str, ...] = ()
    """Further arguments of the spec."""


KIND_PARTS: Mapping[ComponentKind, KindParts] = {
    "environment": KindParts(
        module="environment",
        hook="tumbler_environments",
        spec="EnvironmentSpec",
        contract="environment.Environment",
        summary="Reach a number in small steps.",
    ),
    "algorithm": KindParts(
        module="algorithm",
        hook="tumbler_algorithms",
        spec="AlgorithmSpec",
        contract="algorithm.Algorithm",
        summary="Policy gradient with the group's mean as baseline.",
        arguments=('extra="train"', 'needs=("training", "inference", "execution")'),
    ),
    "agent": KindParts(
        module="agent",
        hook="tumbler_agents",
        spec="AgentSpec",
        contract="agent.Agent",
        summary="One JSON object a turn.",
        arguments=('needs=("execution",)',),
    ),
    "context-strategy": KindParts(
        module="context_strategy",
        hook="tumbler_context_strategies",
        spec="ContextStrategySpec",
        contract="context.ContextStrategy",
        summary="Shorten old observations.",
    ),
    "backend": KindParts(
        module="backend",
        hook="tumbler_backends",
        spec="BackendSpec",
        contract="execution.ExecutionBackend",
        summary="Rollouts in this process, a few at a time.",
        arguments=('roles=("execution",)',),
    ),
    "model": KindParts(
        module="model",
        hook="tumbler_models",
        spec="ModelSpec",
        contract="model.ModelSource",
        summary="A small new model that reads bytes.",
        arguments=('extra="train"',),
    ),
}
