"""What plugins return from registration hooks: light descriptions of their components.

`load` and `config` are functions with the import inside, so that nothing heavy is imported before a
component is used and a type checker still sees a renamed class.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from tumbler.config import Settings
    from tumbler.contracts.agent import Agent
    from tumbler.contracts.algorithm import Algorithm
    from tumbler.contracts.chat import ChatModel
    from tumbler.contracts.context import ContextStrategy
    from tumbler.contracts.environment import Environment
    from tumbler.contracts.execution import ExecutionBackend
    from tumbler.contracts.gateway import ModelGateway
    from tumbler.contracts.inference import InferenceBackend
    from tumbler.contracts.model import ModelSource
    from tumbler.contracts.sandbox import SandboxBackend
    from tumbler.contracts.sandbox_service import SandboxService
    from tumbler.contracts.training import TrainingBackend

__all__ = [
    "KINDS",
    "AgentSpec",
    "AlgorithmSpec",
    "BackendRole",
    "BackendSpec",
    "ComponentKind",
    "ComponentSpec",
    "ContextStrategySpec",
    "EnvironmentSpec",
    "ModelSpec",
]

BackendRole: TypeAlias = Literal["sandbox", "inference", "training", "execution", "gateway", "service", "chat"]
"""What a backend can do. A run names those that it needs of the first five: `gateway` lets programs speak to the
policy. `service` offers sandboxes to other machines, and `chat` speaks to a served model."""
ComponentKind: TypeAlias = Literal["environment", "algorithm", "agent", "context-strategy", "backend", "model"]


@dataclass(frozen=True, kw_only=True)
class ComponentSpec:
    """What all specs share.

    Attributes:
        name: lower-case words joined by hyphens; unique among the plugin's components of one kind.
        summary: one sentence for listings.
        config: returns the `Settings` subclass of the component.
        extra: the extra of the plugin's own distribution that installs what `load` needs, or None.
        needs: the backend roles that a run must name if it uses the component.
        default: whether commands that are given no name take this component among those of its kind, or of its role.
            Runs name all that they use. Where several declare it, those of Tumbler's own distribution go first.
    """

    name: str
    summary: str
    config: "Callable[[], type[Settings]]"
    extra: str | None = None
    needs: tuple[BackendRole, ...] = ()
    default: bool = False


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec(ComponentSpec):
    """An environment; `load` returns a class that is built from the settings, one for each episode."""

    load: "Callable[[], type[Environment]]"


@dataclass(frozen=True, kw_only=True)
class AlgorithmSpec(ComponentSpec):
    """An algorithm."""

    load: "Callable[[], type[Algorithm]]"


@dataclass(frozen=True, kw_only=True)
class AgentSpec(ComponentSpec):
    """An agent scaffold."""

    load: "Callable[[], type[Agent]]"


@dataclass(frozen=True, kw_only=True)
class ContextStrategySpec(ComponentSpec):
    """A context strategy."""

    load: "Callable[[], type[ContextStrategy]]"


@dataclass(frozen=True, kw_only=True)
class ModelSpec(ComponentSpec):
    """A model source: where the model folder that a run starts from comes from."""

    load: "Callable[[], type[ModelSource]]"


@dataclass(frozen=True, kw_only=True)
class BackendSpec(ComponentSpec):
    """A compute backend for one or more roles; the loaded class keeps the contract of each.

    Attributes:
        roles: what it can do.
        default_roles: those of them that `default` is said of; None is all.
    """

    roles: tuple[BackendRole, ...]
    default_roles: tuple[BackendRole, ...] | None = None
    load: """Callable[
        [],
        type[SandboxBackend]
        | type[InferenceBackend]
        | type[TrainingBackend]
        | type[ExecutionBackend]
        | type[ModelGateway]
        | type[SandboxService]
        | type[ChatModel],
    ]"""


KINDS: dict[ComponentKind, type[ComponentSpec]] = {
    "environment": EnvironmentSpec,
    "algorithm": AlgorithmSpec,
    "agent": AgentSpec,
    "context-strategy": ContextStrategySpec,
    "backend": BackendSpec,
    "model": ModelSpec,
}
