"""`tumbler report`: write the report of a run again, from its folder alone."""

import argparse
from pathlib import Path

from tumbler.errors import RunError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run_folder", type=Path, help="the folder of a run")


def run(args: argparse.Namespace) -> int:
    """Carry out the command."""
    from tumbler.plugins import PluginHost
    from tumbler.run.files import read_json

    read_json(args.run_folder / "run.json")
    host = PluginHost.load()
    written = [path for _, path in host.observers.collect("tumbler_report", folder=args.run_folder) if path]
    if not written:
        raise RunError("no installed plugin writes reports; `tumbler plugins` tells which are disabled or broken")
    for path in written:
        print(path)
    return 0
