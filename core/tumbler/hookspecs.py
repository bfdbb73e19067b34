"""The registration hooks: each returns data, takes nothing, and depends on no order.

A plugin module is imported whenever Tumbler starts, so it imports nothing heavy: the examples take
settings and contracts for type checkers only, and the classes inside `load` and `config`.
"""

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
    """Provide environments: tasks, their tools and a verdict. The loaded class keeps `Environment`.

    Example:
        ```python
        from typing import TYPE_CHECKING

        from tumbler import hookimpl
        from tumbler.specs import EnvironmentSpec

        if TYPE_CHECKING:
            from tumbler.config import Settings
            from tumbler.contracts.environment import Environment


        def _load() -> "type[Environment]":
            from my_package.maze import Maze

            return Maze


        def _config() -> "type[Settings]":
            from my_package.maze import MazeSettings

            return MazeSettings


        @hookimpl
        def tumbler_environments() -> list[EnvironmentSpec]:
            return [EnvironmentSpec(name="maze", summary="Find the way out.", load=_load, config=_config)]
        ```
    """


@hookspec
def tumbler_algorithms() -> Iterable[AlgorithmSpec]:  # type: ignore[empty-body]  # a spec has no body
    """Provide algorithms: which rollouts, what each chunk is worth, and the loss. The class keeps `Algorithm`.

    Example:
        ```python
        from typing import TYPE_CHECKING

        from tumbler import hookimpl
        from tumbler.specs import AlgorithmSpec

        if TYPE_CHECKING:
            from tumbler.config import Settings
            from tumbler.contracts.algorithm import Algorithm


        def _load() -> "type[Algorithm]":
            from my_package.reinforce import Reinforce

            return Reinforce


        def _config() -> "type[Settings]":
            from my_package.reinforce import ReinforceSettings

            return ReinforceSettings


        @hookimpl
        def tumbler_algorithms() -> list[AlgorithmSpec]:
            return [
                AlgorithmSpec(
                    name="reinforce",
                    summary="Plain policy gradient.",
                    load=_load,
                    config=_config,
                    needs=("training",),
                )
            ]
        ```
    """


@hookspec
def tumbler_agents() -> Iterable[AgentSpec]:  # type: ignore[empty-body]  # a spec has no body
    """Provide agent scaffolds: what drives model, tools and context. The loaded class keeps `Agent`.

    Example:
        ```python
        from typing import TYPE_CHECKING

        from tumbler import hookimpl
        from tumbler.specs import AgentSpec

        if TYPE_CHECKING:
            from tumbler.config import Settings
            from tumbler.contracts.agent import Agent


        def _load() -> "type[Agent]":
            from my_package.planner import Planner

            return Planner


        def _config() -> "type[Settings]":
            from my_package.planner import PlannerSettings

            return PlannerSettings


        @hookimpl
        def tumbler_agents() -> list[AgentSpec]:
            return [AgentSpec(name="planner", summary="Plan first, then act.", load=_load, config=_config)]
        ```
    """


@hookspec
def tumbler_context_strategies() -> Iterable[ContextStrategySpec]:  # type: ignore[empty-body]  # a spec has no body
    """Provide context strategies: edits of what the model sees. The loaded class keeps `ContextStrategy`.

    Example:
        ```python
        from typing import TYPE_CHECKING

        from tumbler import hookimpl
        from tumbler.specs import ContextStrategySpec

        if TYPE_CHECKING:
            from tumbler.config import Settings
            from tumbler.contracts.context import ContextStrategy


        def _load() -> "type[ContextStrategy]":
            from my_package.window import Window

            return Window


        def _config() -> "type[Settings]":
            from my_package.window import WindowSettings

            return WindowSettings


        @hookimpl
        def tumbler_context_strategies() -> list[ContextStrategySpec]:
            return [ContextStrategySpec(name="window", summary="Keep the last messages.", load=_load, config=_config)]
        ```
    """


@hookspec
def tumbler_backends() -> Iterable[BackendSpec]:  # type: ignore[empty-body]  # a spec has no body
    """Provide compute backends. The loaded class keeps the contract of each role that the spec names.

    The roles are `sandbox`, `inference`, `training`, `execution` and `service`, which offers a sandbox backend to
    other machines.

    Example:
        ```python
        from typing import TYPE_CHECKING

        from tumbler import hookimpl
        from tumbler.specs import BackendSpec

        if TYPE_CHECKING:
            from tumbler.config import Settings
            from tumbler.contracts.sandbox import SandboxBackend


        def _load() -> "type[SandboxBackend]":
            from my_package.cloud import Cloud

            return Cloud


        def _config() -> "type[Settings]":
            from my_package.cloud import CloudSettings

            return CloudSettings


        @hookimpl
        def tumbler_backends() -> list[BackendSpec]:
            return [
                BackendSpec(
                    name="cloud",
                    summary="Rented sandboxes.",
                    load=_load,
                    config=_config,
                    roles=("sandbox",),
                    extra="cloud",
                )
            ]
        ```
    """


@hookspec
def tumbler_models() -> Iterable[ModelSpec]:  # type: ignore[empty-body]  # a spec has no body
    """Provide model sources: what a run starts from. The loaded class keeps `ModelSource`.

    Example:
        ```python
        from typing import TYPE_CHECKING

        from tumbler import hookimpl
        from tumbler.specs import ModelSpec

        if TYPE_CHECKING:
            from tumbler.config import Settings
            from tumbler.contracts.model import ModelSource


        def _load() -> "type[ModelSource]":
            from my_package.mirror import Mirror

            return Mirror


        def _config() -> "type[Settings]":
            from my_package.mirror import MirrorSettings

            return MirrorSettings


        @hookimpl
        def tumbler_models() -> list[ModelSpec]:
            return [ModelSpec(name="mirror", summary="A folder on the file server.", load=_load, config=_config)]
        ```
    """
