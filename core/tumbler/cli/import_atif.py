"""`tumbler import-atif`: turn ATIF documents into a file of trajectories."""

import argparse
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", type=Path, help="an ATIF document, or a folder of them")
    parser.add_argument("target", type=Path, help="the .jsonl file to write")


def run(args: argparse.Namespace) -> int:
    """Carry out the command."""
    from tumbler.formats.files import import_atif

    report = import_atif(args.source, args.target)
    print(f"wrote {report.written} to {report.path}")
    return 0
