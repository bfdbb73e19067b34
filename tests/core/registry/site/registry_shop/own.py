"""Stands in for Tumbler's own plugins."""

from importlib import import_module

from tumbler import hookimpl
from tumbler.specs import (
    AgentSpec,
    AlgorithmSpec,
    BackendSpec,
    ContextStrategySpec,
    EnvironmentSpec,
    ModelSpec,
)


def _config(name):
    return lambda: getattr(import_module("registry_shop.settings"), name)


def _heavy():
    import torch

    return torch.nn.Module


def _folder():
    from registry_shop.components import Folder

    return Folder


@hookimpl
def tumbler_environments():
    return [EnvironmentSpec(name="trail", summary="Follow it.", load=_heavy, config=_config("TrailSettings"))]


@hookimpl
def tumbler_algorithms():
    return [
        AlgorithmSpec(
            name="ipa",
            summary="Chunks.",
            load=_heavy,
            config=_config("IPASettings"),
            extra="train",
            needs=("training",),
        )
    ]


@hookimpl
def tumbler_agents():
    return [AgentSpec(name="react", summary="Think and act.", load=_heavy, config=_config("ReactSettings"))]


@hookimpl
def tumbler_context_strategies():
    return [
        ContextStrategySpec(name="none", summary="Keep all.", load=_heavy, config=_config("ReactSettings")),
        ContextStrategySpec(name="summary", summary="Sum up.", load=_heavy, config=_config("SummarySettings")),
    ]


@hookimpl
def tumbler_models():
    return [ModelSpec(name="folder", summary="A folder.", load=_folder, config=_config("EngineSettings"))]


@hookimpl
def tumbler_backends():
    return [
        BackendSpec(
            name=name,
            summary=f"Does {role}.",
            load=_heavy,
            config=_config("EngineSettings"),
            roles=(role,),
            extra=extra,
        )
        for name, role, extra in (
            ("engine", "inference", None),
            ("optimizer", "training", "absent"),
            ("local", "execution", None),
            ("box", "sandbox", None),
        )
    ]
