"""The registry: `registry.toml` read, checked as a whole, and resolved into runs.

Imports pydantic; commands that need neither registry nor settings do not import this package.
"""

from tumbler.registry.load import Registry, load_registry, read_registry
from tumbler.registry.problem import Problem
from tumbler.registry.record import load_resolved, run_from_json, version_drift
from tumbler.registry.resolve import check_registry, check_run, resolve_run
from tumbler.registry.resolved import (
    EvalStage,
    ExpertSource,
    PluginPolicy,
    ResolvedComponent,
    ResolvedRun,
    RlStage,
    SftStage,
)
from tumbler.registry.schema import json_schema
from tumbler.registry.secret_references import reveal

__all__ = [
    "EvalStage",
    "ExpertSource",
    "PluginPolicy",
    "Problem",
    "Registry",
    "ResolvedComponent",
    "ResolvedRun",
    "RlStage",
    "SftStage",
    "check_registry",
    "check_run",
    "json_schema",
    "load_registry",
    "load_resolved",
    "read_registry",
    "resolve_run",
    "reveal",
    "run_from_json",
    "version_drift",
]
