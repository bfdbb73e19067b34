"""A plugin as one could be written for the first release of the plugin API `tumbler.v1`.

NEVER EDIT THIS FILE. It stands for plugins that others wrote and will not touch again: if it no longer
loads or works, Tumbler has broken its promise that within a major version of the API hooks, spec fields
and contracts are only added. Mend Tumbler, or open `tumbler.v2`.
"""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import (
    AgentSpec,
    AlgorithmSpec,
    BackendSpec,
    ContextStrategySpec,
    EnvironmentSpec,
    ModelSpec,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tumbler.config import Settings
    from tumbler.contracts.agent import Agent
    from tumbler.contracts.algorithm import Algorithm
    from tumbler.contracts.context import ContextStrategy
    from tumbler.contracts.environment import Environment
    from tumbler.contracts.execution import ExecutionBackend
    from tumbler.contracts.inference import InferenceBackend
    from tumbler.contracts.model import ModelSource
    from tumbler.contracts.sandbox import SandboxBackend
    from tumbler.contracts.training import TrainingBackend
    from tumbler.contracts.values import JSON
    from tumbler.observers import RunInfo, StageInfo, StepMetrics
    from tumbler.trajectory.record import Trajectory

heard: "list[tuple[str, object]]" = []


def _settings() -> "type[Settings]":
    from frozen_v1_components import FrozenSettings

    return FrozenSettings


def _environment() -> "type[Environment]":
    from frozen_v1_components import Counting

    return Counting


def _algorithm() -> "type[Algorithm]":
    from frozen_v1_components import Uniform

    return Uniform


def _agent() -> "type[Agent]":
    from frozen_v1_components import OneCall

    return OneCall


def _strategy() -> "type[ContextStrategy]":
    from frozen_v1_components import KeepAll

    return KeepAll


def _sandbox() -> "type[SandboxBackend]":
    from frozen_v1_components import NoSandboxes

    return NoSandboxes


def _inference() -> "type[InferenceBackend]":
    from frozen_v1_components import Echo

    return Echo


def _training() -> "type[TrainingBackend]":
    from frozen_v1_components import Still

    return Still


def _execution() -> "type[ExecutionBackend]":
    from frozen_v1_components import OneAtATime

    return OneAtATime


def _model() -> "type[ModelSource]":
    from frozen_v1_components import EmptyFolder

    return EmptyFolder


@hookimpl
def tumbler_environments() -> list[EnvironmentSpec]:
    """Provide an environment."""
    return [EnvironmentSpec(name="counting", summary="Count to the goal.", load=_environment, config=_settings)]


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    """Provide an algorithm."""
    return [
        AlgorithmSpec(
            name="uniform", summary="All chunks count alike.", load=_algorithm, config=_settings, needs=("training",)
        )
    ]


@hookimpl
def tumbler_agents() -> list[AgentSpec]:
    """Provide an agent."""
    return [AgentSpec(name="one-call", summary="Call the model once.", load=_agent, config=_settings)]


@hookimpl
def tumbler_context_strategies() -> list[ContextStrategySpec]:
    """Provide a context strategy."""
    return [ContextStrategySpec(name="keep-all", summary="Keep everything.", load=_strategy, config=_settings)]


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Provide a backend for each role."""
    return [
        BackendSpec(
            name="no-sandboxes", summary="None.", load=_sandbox, config=_settings, roles=("sandbox",), extra="boxes"
        ),
        BackendSpec(name="echo", summary="Say it again.", load=_inference, config=_settings, roles=("inference",)),
        BackendSpec(name="still", summary="Learn nothing.", load=_training, config=_settings, roles=("training",)),
        BackendSpec(name="single", summary="One at a time.", load=_execution, config=_settings, roles=("execution",)),
    ]


@hookimpl
def tumbler_models() -> list[ModelSpec]:
    """Provide a model source."""
    return [ModelSpec(name="empty", summary="An empty folder.", load=_model, config=_settings)]


@hookimpl
def tumbler_run_started(run: "RunInfo") -> None:
    """Hear that a run starts."""
    heard.append(("run_started", (run.id, run.name, run.folder, run.resolved, run.stages, run.resumed)))


@hookimpl
def tumbler_stage_started(run: "RunInfo", stage: "StageInfo") -> None:
    """Hear that a stage starts."""
    heard.append(("stage_started", (run.id, stage.index, stage.kind, stage.label, stage.steps)))


@hookimpl
def tumbler_trajectory_finished(run: "RunInfo", stage: "StageInfo", trajectory: "Trajectory") -> None:
    """Hear of an episode."""
    heard.append(("trajectory_finished", (run.id, stage.label, trajectory.id, trajectory.reward, trajectory.status)))


@hookimpl
def tumbler_step_finished(run: "RunInfo", stage: "StageInfo", metrics: "StepMetrics") -> None:
    """Hear of a step."""
    heard.append(("step_finished", (run.id, stage.label, metrics.step, metrics.values, metrics.samples)))


@hookimpl
def tumbler_stage_finished(run: "RunInfo", stage: "StageInfo", result: "Mapping[str, JSON]") -> None:
    """Hear that a stage is done."""
    heard.append(("stage_finished", (run.id, stage.label, result)))


@hookimpl
def tumbler_checkpoint_saved(path: "Path") -> None:
    """Hear of a checkpoint; an implementation may leave arguments out."""
    heard.append(("checkpoint_saved", path))


@hookimpl
def tumbler_run_finished(run: "RunInfo", result: "Mapping[str, JSON]") -> None:
    """Hear that the run is done."""
    heard.append(("run_finished", (run.id, result)))


@hookimpl
def tumbler_report(folder: "Path") -> "Path | None":
    """Name the report."""
    return folder / "frozen.txt"
