"""Reads the registry and finds the run that a command names, with its plugin host."""

import argparse
from pathlib import Path

from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun, load_registry, load_resolved, resolve_run, version_drift

__all__ = ["load_folder", "load_run"]


def load_run(args: argparse.Namespace) -> tuple[ResolvedRun, PluginHost]:
    """Return the run that `args.name` names, in `args.registry` or as a run.json of its own."""
    if args.name.endswith(".json"):
        return load_folder(Path(args.name))
    overrides = list(args.set)
    if args.seed is not None:
        overrides.append(f"runs.{args.name}.seed={args.seed}")
    registry = load_registry(args.registry, overrides)
    plugins = registry.tables.plugins
    host = PluginHost.load(allow=plugins.allow, disable=plugins.disable)
    return resolve_run(registry, args.name, host), host


def load_folder(run_json: Path) -> tuple[ResolvedRun, PluginHost]:
    """Return the run of a run.json; versions that changed since are warned of."""
    resolved = load_resolved(run_json)
    host = PluginHost.load(allow=resolved.plugins.allow, disable=resolved.plugins.disable)
    for warning in version_drift(resolved, host):
        print(f"warning: {warning}")
    return resolved, host
