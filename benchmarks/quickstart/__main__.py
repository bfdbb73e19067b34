"""The run `quickstart` as an earlier commit has it and as this tree does, in turns, phase by phase.

    python benchmarks/quickstart --before cc14935

Both take this environment's packages; the earlier commit is checked out once into a worktree under .bench/. Each side
runs with its own registry, so that what the run does is compared first: stages, steps, episodes. Then its success on
held-out tasks, whose 95 % intervals must overlap, and its time: by the wall, and of the processor with all that the
run started, sandboxes too.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
BENCH = ROOT / ".bench" / "quickstart"
SOURCES = ("core", "plugins/agents", "plugins/algorithms", "plugins/backends", "plugins/envs")
FASTER_BAR = 2.0


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One run."""

    wall: float
    cpu: float
    phases: Mapping[str, float]
    """Wall seconds of the start, of each stage, and of the end."""
    stages: Sequence[Mapping[str, Any]]
    """As in results.json."""


def worktree(commit: str) -> Path:
    """Return a checkout of the commit."""
    place = BENCH / commit
    if not place.exists():
        subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(place), commit], cwd=ROOT, check=True)
    return place


def environment(tree: Path) -> dict[str, str]:
    """Return the variables with which Python finds a tree's packages, and its plugins, before any that are installed.

    Plugins are found by what an installation writes down, so that is written down for the tree.
    """
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    site = BENCH / f"site-{tree.name}"
    written = site / "tumbler-0.dist-info"
    written.mkdir(parents=True, exist_ok=True)
    (written / "METADATA").write_text("Metadata-Version: 2.1\nName: tumbler\nVersion: 0\n")
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {module}" for name, module in entries.items())])
        for group, entries in project["entry-points"].items()
    ]
    (written / "entry_points.txt").write_text("\n\n".join(groups) + "\n")
    path = os.pathsep.join([str(site), *(str(tree / source) for source in SOURCES)])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


def run(tree: Path, seed: int, overrides: Sequence[str]) -> Ran:
    """Run `quickstart` of a tree and return how it went."""
    with tempfile.TemporaryDirectory(prefix="tumbler-quickstart-") as folder:
        place = Path(folder) / "run"
        command = [sys.executable, "-m", "tumbler.cli.main", "run", "quickstart", "--seed", str(seed)]
        command += ["--folder", str(place), *(word for each in overrides for word in ("--set", each))]
        before, marks = _cpu(), [("start", time.perf_counter())]
        with subprocess.Popen(
            command, cwd=tree, env=environment(tree), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                words = line.split()
                if len(words) > 2 and words[1].endswith(":") and words[2].startswith("started,"):
                    marks.append((words[1].rstrip(":"), time.perf_counter()))
                elif line.startswith("✓"):
                    marks.append(("end", time.perf_counter()))
        end = time.perf_counter()
        if process.returncode:
            raise SystemExit(f"the run in {tree} failed:\n{''.join(said[-40:])}")
        results = json.loads((place / "results.json").read_text())
        marks.append(("", end))
        phases = {name: after - begun for (name, begun), (_, after) in pairwise(marks)}
        return Ran(wall=end - marks[0][1], cpu=_cpu() - before, phases=phases, stages=results["stages"])


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def work(ran: Ran) -> list[object]:
    """Return what a run did, whatever came of it."""
    return [
        [stage["label"], stage.get("steps"), {name: each["episodes"] for name, each in stage.get("envs", {}).items()}]
        for stage in ran.stages
    ]


def successes(ran: Ran) -> dict[str, Mapping[str, float]]:
    """Return each evaluation's figures."""
    return {f"{s['label']} {name}": each for s in ran.stages for name, each in s.get("envs", {}).items()}


def table(before: Sequence[Ran], after: Sequence[Ran]) -> Iterator[str]:
    """Yield the lines of the table, medians of all rounds."""
    yield "| | before, s | after, s | ratio | lowest to highest |"
    yield "|---|---|---|---|---|"
    columns = {
        "wall": ([each.wall for each in before], [each.wall for each in after]),
        "processor": ([each.cpu for each in before], [each.cpu for each in after]),
        **{
            name: ([each.phases[name] for each in before], [each.phases[name] for each in after])
            for name in before[0].phases
            if all(name in each.phases for each in (*before, *after))
        },
    }
    for name, (old, new) in columns.items():
        ratios = [one / other for one, other in zip(old, new, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        middle = [statistics.median(each) for each in (old, new, ratios)]
        yield f"| {name} | {middle[0]:.1f} | {middle[1]:.1f} | {middle[2]:.2f} | {spread} |"


def verdicts(before: Sequence[Ran], after: Sequence[Ran]) -> dict[str, bool]:
    """Return which bars hold."""
    held = {"the same stages, steps and episodes": all(work(each) == work(before[0]) for each in (*before, *after))}
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        found = successes(new)
        for name, was in successes(old).items():
            now = found[name]
            apart = was["wilson_high"] < now["wilson_low"]
            worse = now["wilson_high"] < was["wilson_low"]
            line = f"round {number}, {name}: {was['success_rate']:.1%} before, {now['success_rate']:.1%} after"
            held[line] = not (apart or worse)
    ratio = statistics.median(old.wall / new.wall for old, new in zip(before, after, strict=True))
    held[f"{ratio:.2f}x faster, at least {FASTER_BAR}x"] = ratio >= FASTER_BAR
    return held


def main() -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="cc14935", help="the earlier commit (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each side; each round has a seed of its own")
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="override on both sides")
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    trees = (worktree(arguments.before), ROOT)
    sides: tuple[list[Ran], list[Ran]] = ([], [])
    for number in range(arguments.rounds):
        # In turns, and each side first in every other round: a machine is not the same from minute to minute.
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            ran = run(trees[side], arguments.seed + number, arguments.set)
            sides[side].append(ran)
            name = ("before", "after")[side]
            print(f"round {number}, {name}: {ran.wall:.1f} s, processor {ran.cpu:.1f} s", flush=True)
    held = verdicts(*sides)
    print("\n".join(table(*sides)))
    print("\n".join(f"{'holds' if holds else 'FAILS'}: {bar}" for bar, holds in held.items()))
    print(f"{platform.python_version()}; {os.cpu_count()} processors; load {os.getloadavg()[0]:.1f}")
    if arguments.json:
        options = {name: str(value) for name, value in vars(arguments).items()}
        figures = {name: [asdict(each) for each in side] for name, side in zip(("before", "after"), sides, strict=True)}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(
            json.dumps({"options": options, "machine": platform.platform(), **figures, "bars": held}, indent=1)
        )


if __name__ == "__main__":
    main()
