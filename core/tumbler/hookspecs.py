"""The registration hooks: each returns data, takes nothing, and depends on no order."""

from collections.abc import Iterable

from tumbler.markers import hookspec
from tumbler.specs import (
    AgentSpec,
    AlgorithmSpec,
    BackendSpec,
    ContextStrategySpec,
    EnvironmentSpec,
    ModelSpec,
)

__all__ = [
    "tumbler_agents",
    "tumbler_algorithms",
    "tumbler_backends",
    "tumbler_context_strategies",
    "tumbler_environments",
    "tumbler_models",
]


@hookspec
def tumbler_environments() -> Iterable[EnvironmentSpec]:  # type: ignore[empty-body]  # a spec has no body
    """Provide environments.

    Example:
        ```python
        from tumbler import hookimpl
        from tumbler.contracts.environment import Environment
        from tumbler.config import Settings
        from tumbler.specs import EnvironmentSpec

        def _load() -> type[Environment]:
            from my_package.maze import Maze
            return Maze

        def _config() -> type[Settings]:
            from my_package.maze import MazeSettings
            return MazeSettings

        @hookimpl
        def tumbler_environments() -> list[EnvironmentSpec]:
            return [EnvironmentSpec(name="maze", summary="Find the way out.", load=_load, config=_config)]
        ```
    """


@hookspec
def tumbler_algorithms() -> Iterable[AlgorithmSpec]:  # type: ignore[empty-body]  # a spec has no body
    """Provide algorithms."""


@hookspec
def tumbler_agents() -> Iterable[AgentSpec]:  # type: ignore[empty-body]  # a spec has no body
    """Provide agent scaffolds."""


@hookspec
def tumbler_context_strategies() -> Iterable[ContextStrategySpec]:  # type: ignore[empty-body]  # a spec has no body
    """Provide context strategies."""


@hookspec
def tumbler_backends() -> Iterable[BackendSpec]:  # type: ignore[empty-body]  # a spec has no body
    """Provide compute backends: sandbox, inference, training, execution."""


@hookspec
def tumbler_models() -> Iterable[ModelSpec]:  # type: ignore[empty-body]  # a spec has no body
    """Provide model sources."""
