"""`tumbler run`: start, repeat, show or resume a run."""

import argparse
import json
from pathlib import Path

from tumbler.errors import RegistryError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", nargs="?", help="a run of the registry, or a run.json to repeat")
    parser.add_argument("--registry", type=Path, default=Path("registry.toml"), help="default: %(default)s")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="override a setting")
    parser.add_argument("--seed", type=int, help="the run's seed")
    parser.add_argument("--folder", type=Path, help="the run's folder; default: runs/NAME-SEED-TIME")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="go on with the run in FOLDER; default: the newest unfinished one under runs/",
    )
    parser.add_argument("--print", action="store_true", dest="show", help="print the resolved run and stop")


def run(args: argparse.Namespace) -> int:
    """Carry out the command."""
    if args.resume is not None:
        return _resume(args)
    if args.name is None:
        raise RegistryError("name a run: tumbler run NAME (tumbler check lists the registry's runs)")
    return _start(args)


def _resume(args: argparse.Namespace) -> int:
    from tumbler.cli.loading import load_folder
    from tumbler.run.command import latest_unfinished, resume_run

    folder = Path(args.resume) if args.resume else latest_unfinished(Path("runs"), [args.name] if args.name else [])
    _, host = load_folder(folder / "run.json")
    print(f"resuming {folder}")
    resume_run(folder, host)
    return 0


def _start(args: argparse.Namespace) -> int:
    from tumbler.cli.loading import load_run
    from tumbler.run.command import new_folder, start_run

    resolved, host = load_run(args)
    if args.show:
        print(json.dumps(resolved.to_json(), indent=2, ensure_ascii=False))
        return 0
    start_run(resolved, args.folder or new_folder(Path("runs"), resolved.name, resolved.seed), host)
    return 0
