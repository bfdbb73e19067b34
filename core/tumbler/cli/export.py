"""`tumbler export`: write a run's trajectories as ATIF documents, ChatML or ShareGPT."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tumbler.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tumbler.formats.files import ExportReport
    from tumbler.trajectory import Trajectory

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run_folder", type=Path, help="the folder of a run")
    parser.add_argument("target", type=Path, help="the folder for atif, the .jsonl file for chatml and sharegpt")
    parser.add_argument("--format", choices=("atif", "chatml", "sharegpt"), default="atif", help="default: %(default)s")
    parser.add_argument("--stage", action="append", default=[], metavar="LABEL", help="such as 3-rl; default: all")
    parser.add_argument(
        "--keep",
        choices=("all", "finished", "successful"),
        help="all; finished: completed and judged; successful: of these, solved (default: all for atif, else finished)",
    )
    parser.add_argument("--source", choices=("policy", "expert", "teacher"), help="who acted; default: any")
    parser.add_argument("--system", type=Path, metavar="FILE", help="the system message of chatml and sharegpt")
    parser.add_argument(
        "--rewritten",
        action="store_true",
        help="with chatml and sharegpt, take replies after a rewrite of the context for answers to the unedited log",
    )


def run(args: argparse.Namespace) -> int:
    """Carry out the command."""
    from tumbler.formats.files import export_atif, export_conversations, read_trajectories

    trajectories = read_trajectories(args.run_folder, args.stage)
    keep = _filter(args)
    if args.format == "atif":
        report = export_atif(trajectories, args.target, keep=keep)
    else:
        system = _text(args.system) if args.system else ""
        report = export_conversations(
            trajectories,
            args.target,
            form=args.format,
            keep=keep,
            system=system,
            through_rewrites=args.rewritten,
        )
    if not report.written:
        raise RunError(f"nothing to export; left out: {_listed(report) or 'nothing, there are no trajectories'}")
    print(f"wrote {report.written} to {report.path}")
    if report.left_out:
        print(f"left out: {_listed(report)}")
    if report.replies_left_out:
        print(f"left out: {report.replies_left_out} replies whose context is not in the record as text")
    return 0


def _filter(args: argparse.Namespace) -> "Callable[[Trajectory], bool]":
    from tumbler.formats import finished

    wanted = args.keep or ("all" if args.format == "atif" else "finished")

    def keep(trajectory: "Trajectory") -> bool:
        if args.source is not None and trajectory.header.source != args.source:
            return False
        return wanted == "all" or (finished(trajectory) and (wanted == "finished" or trajectory.success is True))

    return keep


def _listed(report: "ExportReport") -> str:
    return ", ".join(f"{count} ({reason})" for reason, count in sorted(report.left_out.items()))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"--system {path} cannot be read: {error}") from error
