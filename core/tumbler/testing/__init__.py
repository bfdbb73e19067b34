"""The kit for plugin authors: a check of a whole plugin, contract suites, and fakes.

Nothing here is imported before it is used, so that neither pytest nor pydantic is needed to look inside.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tumbler.testing.agent_suite import AgentSuite
    from tumbler.testing.algorithm_suite import AlgorithmSuite
    from tumbler.testing.checking import check_plugin
    from tumbler.testing.context_suite import ContextStrategySuite
    from tumbler.testing.counting import CountingSettings, CountingTrainer
    from tumbler.testing.environment_suite import EnvironmentSuite
    from tumbler.testing.execution_suite import ExecutionSuite
    from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference, TwoStepEnvironment, TwoStepSettings
    from tumbler.testing.inference_suite import InferenceSuite
    from tumbler.testing.memory_sandbox import MemorySandbox, MemorySandboxBackend
    from tumbler.testing.model_suite import ModelSuite
    from tumbler.testing.samples import sample_task, sample_trajectory
    from tumbler.testing.sandbox_complete_suite import CompleteSandboxSuite
    from tumbler.testing.sandbox_suite import SandboxSuite
    from tumbler.testing.suite import ContractSuite
    from tumbler.testing.training_suite import TrainingSuite

__all__ = [
    "AgentSuite",
    "AlgorithmSuite",
    "CharacterTokenizer",
    "CompleteSandboxSuite",
    "ContextStrategySuite",
    "ContractSuite",
    "CountingSettings",
    "CountingTrainer",
    "EnvironmentSuite",
    "ExecutionSuite",
    "InferenceSuite",
    "MemorySandbox",
    "MemorySandboxBackend",
    "ModelSuite",
    "SandboxSuite",
    "ScriptedInference",
    "TrainingSuite",
    "TwoStepEnvironment",
    "TwoStepSettings",
    "check_plugin",
    "sample_task",
    "sample_trajectory",
]

_MODULES = {
    "AgentSuite": "agent_suite",
    "AlgorithmSuite": "algorithm_suite",
    "CharacterTokenizer": "fakes",
    "CompleteSandboxSuite": "sandbox_complete_suite",
    "ContextStrategySuite": "context_suite",
    "ContractSuite": "suite",
    "CountingSettings": "counting",
    "CountingTrainer": "counting",
    "EnvironmentSuite": "environment_suite",
    "ExecutionSuite": "execution_suite",
    "InferenceSuite": "inference_suite",
    "MemorySandbox": "memory_sandbox",
    "MemorySandboxBackend": "memory_sandbox",
    "ModelSuite": "model_suite",
    "SandboxSuite": "sandbox_suite",
    "ScriptedInference": "fakes",
    "TrainingSuite": "training_suite",
    "TwoStepEnvironment": "fakes",
    "TwoStepSettings": "fakes",
    "check_plugin": "checking",
    "sample_task": "samples",
    "sample_trajectory": "samples",
}
"""Public name → the module that holds it."""


def __getattr__(name: str) -> object:
    """Import what is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
