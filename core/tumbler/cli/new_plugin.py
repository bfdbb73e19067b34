"""`tumbler new-plugin`: write a plugin package that passes its tests."""

import argparse
from pathlib import Path

from tumbler.specs import KINDS

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", help="lower-case words joined by hyphens; the distribution becomes tumbler-NAME")
    parser.add_argument(
        "--kind",
        action="append",
        choices=list(KINDS),
        help="what to put in; may be given more than once (default: environment)",
    )
    parser.add_argument("--folder", type=Path, help="a folder that does not exist yet (default: tumbler-NAME)")


def run(args: argparse.Namespace) -> int:
    """Write the package and say what to do next."""
    from tumbler.scaffolding.names import free_names
    from tumbler.scaffolding.writing import write_plugin

    names = free_names(args.name)
    folder = args.folder or Path(names.distribution)
    for path in write_plugin(names, args.kind or ["environment"], folder):
        print(f"wrote {path}")
    print(f"\nnext: cd {folder} && pip install -e '.[dev]' && pytest && tumbler run demo")
    return 0
