"""`tumbler check`: list every problem of a registry file; imports nothing heavy."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tumbler.registry import Problem, Registry

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("file", nargs="?", type=Path, default=Path("registry.toml"), help="default: %(default)s")
    parser.add_argument("--run", metavar="NAME", help="check this run only, and that what it needs is installed")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="override a setting")
    parser.add_argument("--json", action="store_true", help="print the problems as JSON")


def run(args: argparse.Namespace) -> int:
    """Print `ok`, or all problems; return 1 if there are any.

    That a package is not installed here is a problem only for a run that is named with `--run`:
    otherwise it is a note, since a file may be checked on a machine that never runs it.
    """
    from tumbler.plugins import PluginHost
    from tumbler.registry import check_registry, check_run, read_registry

    registry = read_registry(args.file, args.set)
    lists = registry.tables.plugins
    host = PluginHost.load(allow=lists.allow, disable=lists.disable)
    problems = check_registry(registry, host) if args.run is None else check_run(registry, args.run, host)
    failures = [each for each in problems if each.severity == "error" or args.run is not None]
    if args.json:
        print(json.dumps({"ok": not failures, "problems": [asdict(each) for each in problems]}, indent=2))
    else:
        _print(registry, args.run, problems, failures)
    return 1 if failures else 0


def _print(
    registry: "Registry", name: str | None, problems: "Sequence[Problem]", failures: "Sequence[Problem]"
) -> None:
    for problem in problems:
        print(problem if problem in failures else f"note: {problem}")
    if not failures:
        runs = registry.tables.runs if name is None else [name]
        print(f"ok: {registry.source.file}: {'run' if len(runs) == 1 else 'runs'} {', '.join(runs) or 'none'}")
