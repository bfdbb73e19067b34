"""The command line that all studies share, and where their files go."""

import argparse
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Options", "parse_options"]

_ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a study was asked for."""

    out: Path
    """The folder of the runs; the same one goes on where it was left."""
    bases: Path
    """The folder of the models that runs start from, which studies share."""
    results: Path
    """The folder of tables and plots."""
    seeds: int
    workers: int
    quick: bool
    tune: bool
    report: bool


def parse_options(name: str, description: str | None) -> Options:
    """Return the options of the study `name`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m experiments.{name}", description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help=f"folder of the runs; default: runs/experiments/{name}")
    parser.add_argument("--results", type=Path, default=_ROOT / "docs" / "results", help="folder of tables and plots")
    parser.add_argument("--seeds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time; default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="minutes: the main effect alone; ends with 1 without it")
    parser.add_argument("--tune", action="store_true", help="choose learning rates on seeds of their own first")
    parser.add_argument("--report", action="store_true", help="only write tables and plots of the runs that are there")
    args = parser.parse_args()
    out = args.out or _ROOT / "runs" / "experiments" / (f"{name}-quick" if args.quick else name)
    return Options(
        out=out,
        bases=out.parent / "bases",
        results=args.results,
        seeds=args.seeds,
        workers=args.workers,
        quick=args.quick,
        tune=args.tune,
        report=args.report,
    )
