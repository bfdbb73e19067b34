"""Checks an object against the Protocols of its kind; knows no component."""

from inspect import getattr_static
from types import FunctionType
from typing import Protocol, get_args

from tumbler.specs import BackendRole, BackendSpec, ComponentKind, ComponentSpec

__all__ = ["contracts_of", "missing_members"]


def contracts_of(kind: ComponentKind, spec: ComponentSpec) -> list[type]:
    """Return the Protocols that a component's object must keep: one, or one for each role of a backend."""
    if isinstance(spec, BackendSpec):
        return [_role_contract(role) for role in get_args(BackendRole) if role in spec.roles]
    return [_kind_contract(kind)]


def missing_members(value: object, contract: type) -> list[str]:
    """Return the members of the Protocol that the object lacks, and methods of it that cannot be called.

    Properties are looked up but never evaluated, as `isinstance` would on Python 3.11: those of a
    backend may be of use only after its `start`.
    """
    problems = []
    for name, member in sorted(_members(contract).items()):
        found = getattr_static(value, name, None)
        if found is None:
            problems.append(name)
        elif callable(member) and not _is_method(found):
            problems.append(f"{name} (must be a method)")
        elif isinstance(member, property) and isinstance(found, FunctionType):
            problems.append(f"{name} (must be a property)")
    return problems


def _is_method(found: object) -> bool:
    return callable(found) or isinstance(found, staticmethod | classmethod)


def _members(contract: type) -> dict[str, object]:
    return {
        name: member
        for base in contract.__mro__
        if base not in (object, Protocol) and getattr(base, "_is_protocol", False)
        for name, member in vars(base).items()
        if not name.startswith("_")
    }


def _kind_contract(kind: ComponentKind) -> type:
    from tumbler.contracts.agent import Agent
    from tumbler.contracts.algorithm import Algorithm
    from tumbler.contracts.context import ContextStrategy
    from tumbler.contracts.environment import Environment
    from tumbler.contracts.model import ModelSource

    contracts: dict[ComponentKind, type] = {
        "environment": Environment,
        "algorithm": Algorithm,
        "agent": Agent,
        "context-strategy": ContextStrategy,
        "model": ModelSource,
    }
    return contracts[kind]


def _role_contract(role: BackendRole) -> type:
    from tumbler.contracts.chat import ChatModel
    from tumbler.contracts.execution import ExecutionBackend
    from tumbler.contracts.gateway import ModelGateway
    from tumbler.contracts.inference import InferenceBackend
    from tumbler.contracts.sandbox import SandboxBackend
    from tumbler.contracts.sandbox_service import SandboxService
    from tumbler.contracts.training import TrainingBackend

    contracts: dict[BackendRole, type] = {
        "sandbox": SandboxBackend,
        "inference": InferenceBackend,
        "training": TrainingBackend,
        "execution": ExecutionBackend,
        "gateway": ModelGateway,
        "service": SandboxService,
        "chat": ChatModel,
    }
    return contracts[role]
