"""`tumbler eval`: evaluate what a run has trained, on more episodes or at another temperature."""

import argparse
from dataclasses import replace
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run_folder", type=Path, help="the folder of a run")
    parser.add_argument("--checkpoint", help="a name under its checkpoints/; default: the newest")
    parser.add_argument("--episodes", type=int, help="episodes for each environment")
    parser.add_argument("--split", help="the split of tasks")
    parser.add_argument("--temperature", type=float, help="0 is greedy")
    parser.add_argument("--folder", type=Path, help="where to write; default: runs/NAME-eval-SEED-TIME")


def run(args: argparse.Namespace) -> int:
    """Carry out the command."""
    from tumbler.cli.loading import load_folder
    from tumbler.run.command import evaluate_run, new_folder, trained_model

    resolved, host = load_folder(args.run_folder / "run.json")
    chosen = {key: getattr(args, key) for key in ("episodes", "split", "temperature")}
    changes = {key: value for key, value in chosen.items() if value is not None}
    resolved = replace(resolved, eval=replace(resolved.eval, **changes))
    folder = args.folder or new_folder(Path("runs"), f"{resolved.name}-eval", resolved.seed)
    evaluate_run(resolved, trained_model(args.run_folder, args.checkpoint), folder, host)
    return 0
