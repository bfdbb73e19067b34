"""Losses and advantages beside verl's `core_algos`, as ratios in one run, and how far the results are apart.

Both get the same log-probabilities, masks and rewards, in one process, in turns; times are of the processor, forward
and backward pass together. verl needs packages that Tumbler does not, so it has an environment of its own, which sees
the packages of this one (torch above all) through a `.pth` file. It is made once, by

    python benchmarks/losses_verl --make

and found again under .bench/verl; `--environment` names another place.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

ENVIRONMENT = Path(__file__).parent.parent.parent / ".bench" / "verl"
PACKAGES = (
    "verl==0.9.1",
    "tensordict",
    "pyvers",
    "orjson",
    "cloudpickle",
    "importlib_metadata",
    "omegaconf",
    "antlr4-python3-runtime==4.9.3",
    "hydra-core",
    "codetiming",
    "ray",
)
"""verl, and what importing its `core_algos` needs beyond torch, transformers and numpy."""
FASTER_BAR, EQUAL_BAR = 1.5, 1e-6


def make(environment: Path) -> None:
    """Make the environment."""
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    (site / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES], check=True)


def contest(environment: Path, arguments: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Run both sides there and return what was found."""
    python = environment / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"there is no environment with verl in {environment}; make it: {_command('--make')}")
    path = os.pathsep.join(entry for entry in sys.path if entry and Path(entry).is_dir())
    sizes = ("trajectories", "tokens", "chunks", "group", "rounds", "threads")
    asked = [f"--{name}={getattr(arguments, name)}" for name in sizes]
    ended = subprocess.run(
        [str(python), str(Path(__file__).with_name("contest.py")), *asked],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(arguments.threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise SystemExit(
            f"verl does not run in {environment}; remove the folder and make it anew: {_command('--make')}\n"
            f"{ended.stderr[-4000:]}"
        )
    found: dict[str, dict[str, dict[str, float]]] = json.loads(ended.stdout.strip().splitlines()[-1])
    return found


def _command(option: str) -> str:
    return f"{sys.executable} benchmarks/losses_verl {option}"


def table(figures: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| | Tumbler, ms | verl, ms | ratio | lowest to highest | apart |"
    yield "|---|---|---|---|---|---|"
    for name, each in figures.items():
        apart = f"{each['apart']:.0e}" if "apart" in each else "–"
        spread = f"{each['lowest']:.2f} to {each['highest']:.2f}"
        yield f"| {name} | {each['ours_ms']:.2f} | {each['verl_ms']:.2f} | {each['ratio']:.2f} | {spread} | {apart} |"


def verdicts(figures: Mapping[str, Mapping[str, float]]) -> dict[str, bool]:
    """Return which bars hold: each loss together with verl's own default advantage, and how equal results are."""
    ours, theirs = figures["advantage"]["ours_ms"], figures["advantage"]["verl_ms"]
    held = {}
    for name in ("grpo", "gspo", "cispo"):
        each = figures[name]
        ratio = (each["verl_ms"] + theirs) / (each["ours_ms"] + ours)
        held[f"{name} with its advantage: {ratio:.2f}x, at least {FASTER_BAR}x"] = ratio >= FASTER_BAR
    for name, each in figures.items():
        if "apart" in each:
            held[f"{name}: equal to {EQUAL_BAR}"] = each["apart"] <= EQUAL_BAR
    return held


def main() -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, default=ENVIRONMENT, help="where verl is installed")
    parser.add_argument("--make", action="store_true", help="make that environment first")
    parser.add_argument("--trajectories", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=1024, help="of each trajectory")
    parser.add_argument("--chunks", type=int, default=8, help="of each trajectory")
    parser.add_argument("--group", type=int, default=8, help="trajectories that are compared with each other")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    if arguments.make:
        make(arguments.environment)
    found = contest(arguments.environment, arguments)
    held = verdicts(found["figures"])
    print("\n".join(table(found["figures"])))
    print("\n".join(f"{'holds' if holds else 'FAILS'}: {bar}" for bar, holds in held.items()))
    print(f"{found['versions']}; {arguments.threads} thread(s); load {os.getloadavg()[0]:.1f}")
    if arguments.json:
        options = {name: str(value) for name, value in vars(arguments).items()}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        written = {"options": options, "machine": platform.platform(), **found, "bars": held}
        arguments.json.write_text(json.dumps(written, indent=1))


if __name__ == "__main__":
    main()
