"""Whole training runs of Tumbler beside TRL's `GRPOTrainer`, as ratios of trajectories a second in one run.

Both train the same model with GRPO on the same tasks, with the same optimizer: groups of eight replies to four prompts,
a few turns with a fixed number of sampled tokens each, and an environment that takes its time to answer. Tumbler's side
is an ordinary run of a registry, with the backends `transformers`, `torch` and `local`, the agent `react` and the
algorithm `grpo`; TRL's side is a trainer with an `environment_factory`. Each run is a process of its own, the two sides
alternate, and the figures are medians over the rounds. Steps are timed after a first one that warms up. Memory is the
peak of the whole process. Processor time is given beside wall time, because other work on the machine changes it less.

    python benchmarks/training_run --rounds 5 --threads 1
    python benchmarks/training_run --rounds 5 --threads 2

On a quiet machine `--latencies 1-long-tailed` takes TRL a minute and a half for each step: it waits for one call after
the other. Tumbler may let rollouts run ahead of training there (`max_staleness`); the table says by how many steps, and
how many of the tokens are trained: chunks that are too old by then are not.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from contender import Job, Told
from world import LATENCIES, Shape

SIDES = ("tumbler", "trl")
STALENESS = {"0": 0, "0.25": 1, "1-long-tailed": 2}
MICRO_BATCH = {"0": 4096, "0.25": 2048, "1-long-tailed": 2048}
"""Latency → tokens that Tumbler's training computes at once: where it waits for environments, it may save memory."""
BARS = {"0": 2.5, "0.25": 8.0, "1-long-tailed": 20.0}
"""Latency → how many times TRL's trajectories a second."""
MEMORY_BAR, DIFFERENCE_BAR = 0.6, 1e-4
COLUMNS = (
    "model",
    "latency, s",
    "steps ahead",
    "Tumbler, trajectories/s",
    "TRL",
    "ratio",
    "ratio by processor time",
    "Tumbler, MB",
    "TRL",
    "ratio",
    "tokens trained in a step, Tumbler / TRL",
    "log-probabilities apart",
)
PACKAGES = ("torch", "transformers", "trl")


def prepare(folder: Path, size: str) -> int:
    """Make the model in a process of its own, so that this one stays small, and return its parameters."""
    spec = importlib.util.find_spec("trl")
    if spec is None or spec.origin is None:
        raise SystemExit("TRL is not installed; pip install 'trl==1.16.*' into the environment of this Python")
    template = Path(spec.origin).parent / "chat_templates" / "qwen2_5.jinja"
    code = (
        "import sys; from pathlib import Path; from model import make; "
        "print(make(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_text()))"
    )
    command = [sys.executable, "-c", code, str(folder), size, str(template)]
    made = subprocess.run(command, cwd=Path(__file__).parent, check=True, capture_output=True, text=True)
    return int(made.stdout)


def run(side: str, job: Job, threads: int, seconds: float) -> Told:
    """Let one side do the job."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(asdict(job)))
        script = Path(__file__).with_name(f"{side}_side.py")
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "TRL_EXPERIMENTAL_SILENCE": "1",
            "HF_HUB_OFFLINE": "1",
        }
        try:
            subprocess.run(
                [sys.executable, str(script), str(path)],
                env=environment,
                check=True,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"the side {side} failed at {job}:\n{error.stderr}") from error
        return Told(**json.loads(path.with_suffix(".told").read_text()))


def figures(job: Job, told: Told) -> dict[str, float]:
    """Return what one run came to, over its measured steps."""
    first, last = job.warmup - 1, job.warmup - 1 + job.steps
    measured = slice(job.warmup, job.warmup + job.steps)
    trajectories = job.shape.trajectories * job.steps
    return {
        "rate": trajectories / (told.ends[last] - told.ends[first]),
        "cpu_ms": 1000 * (told.cpu[last] - told.cpu[first]) / trajectories,
        "megabytes": told.megabytes,
        "sampled": sum(told.sampled[measured]) / job.steps,
        "spread": min(told.spread),
        "difference": told.difference or 0.0,
    }


def compare(job: Job, arguments: argparse.Namespace) -> dict[str, object]:
    """Let both sides do the job round by round."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for turn in range(arguments.rounds):
        for side in SIDES[:: 1 if turn % 2 == 0 else -1]:
            told = run(side, replace(job, seed=turn), arguments.threads, arguments.timeout)
            found[side].append(figures(job, told))
            print(f"  round {turn + 1}, {side}: {found[side][-1]['rate']:.2f} trajectories/s", file=sys.stderr)
    pairs = list(zip(found["tumbler"], found["trl"], strict=True))
    ratios = [ours["rate"] / theirs["rate"] for ours, theirs in pairs]
    return {
        "runs": found,
        "ratio": [statistics.median(ratios), min(ratios), max(ratios)],
        "cpu_ratio": statistics.median(theirs["cpu_ms"] / ours["cpu_ms"] for ours, theirs in pairs),
        "memory_ratio": statistics.median(ours["megabytes"] / theirs["megabytes"] for ours, theirs in pairs),
        "same_tokens": all(ours["sampled"] == theirs["sampled"] == job.shape.sampled_tokens for ours, theirs in pairs),
        "learnt": all(each["spread"] > 0 for pair in pairs for each in pair),
        "difference": max(ours["difference"] for ours, _ in pairs),
        "staleness": job.staleness,
    }


def row(size: str, latency: str, each: Mapping[str, object]) -> str:
    """Return a line of the table."""
    runs = each["runs"]
    assert isinstance(runs, dict)

    def middle(side: str, name: str) -> float:
        return float(statistics.median(one[name] for one in runs[side]))

    ratio, low, high = _numbers(each["ratio"])
    columns = [
        size,
        latency,
        str(each["staleness"]),
        f"{middle('tumbler', 'rate'):.2f}",
        f"{middle('trl', 'rate'):.2f}",
        f"{ratio:.2f} ({low:.2f} to {high:.2f})",
        f"{each['cpu_ratio']:.2f}",
        f"{middle('tumbler', 'megabytes'):.0f}",
        f"{middle('trl', 'megabytes'):.0f}",
        f"{each['memory_ratio']:.2f}",
        f"{middle('tumbler', 'sampled'):.0f} / {middle('trl', 'sampled'):.0f}",
        f"{each['difference']:.0e}" if not each["staleness"] else "–",
    ]
    return f"| {' | '.join(columns)} |"


def verdicts(size: str, latency: str, each: Mapping[str, object]) -> Iterator[tuple[str, bool]]:
    """Yield each bar with whether it holds."""
    name, ratio, memory = f"{size} at {latency}", _numbers(each["ratio"])[0], each["memory_ratio"]
    assert isinstance(memory, float)
    yield f"{name}: at least {BARS[latency]:g}x the trajectories a second", ratio >= BARS[latency]
    yield f"{name}: at most {MEMORY_BAR} of the memory", memory <= MEMORY_BAR
    yield f"{name}: both train on the same number of tokens", bool(each["same_tokens"])
    yield f"{name}: rewards differ within groups", bool(each["learnt"])
    if not each["staleness"]:
        difference = each["difference"]
        assert isinstance(difference, float)
        yield f"{name}: log-probabilities agree to {DIFFERENCE_BAR}", difference <= DIFFERENCE_BAR


def _numbers(values: object) -> Sequence[float]:
    assert isinstance(values, list)
    return values


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="measured in each round")
    parser.add_argument("--warmup", type=int, default=1, help="steps before them")
    parser.add_argument("--threads", type=int, default=1, help="OMP_NUM_THREADS of both sides")
    parser.add_argument("--sizes", nargs="+", default=["0.63M", "6.2M"], choices=["0.63M", "6.2M"])
    parser.add_argument("--latencies", nargs="+", default=list(LATENCIES), choices=list(LATENCIES))
    parser.add_argument("--staleness", type=int, help="steps that rollouts may run ahead; default: by latency")
    parser.add_argument(
        "--micro-batch", type=int, help="tokens that Tumbler's training computes at once; default: by latency"
    )
    parser.add_argument("--checkpointing", action="store_true", help="let TRL save memory at the cost of time")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds of one run")
    parser.add_argument("--json", type=Path, help="where the figures go")
    return parser.parse_args()


def main() -> None:
    """Compare, print and write."""
    arguments = _arguments()
    before = os.getloadavg()[0]
    found: dict[str, dict[str, object]] = {}
    held: dict[str, bool] = {}
    print(f"| {' | '.join(COLUMNS)} |")
    print("|" + "---|" * len(COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            parameters = prepare(Path(folder) / size, size)
            for latency in arguments.latencies:
                job = Job(
                    model=str(Path(folder) / size),
                    latency=latency,
                    shape=Shape(),
                    steps=arguments.steps,
                    warmup=arguments.warmup,
                    learning_rate=1e-5,
                    staleness=STALENESS[latency] if arguments.staleness is None else arguments.staleness,
                    micro_batch=arguments.micro_batch or MICRO_BATCH[latency],
                    checkpointing=arguments.checkpointing,
                    seed=0,
                )
                each = {"parameters": parameters, **compare(job, arguments)}
                found[f"{size} {latency}"] = each
                held |= dict(verdicts(size, latency, each))
                print(row(size, latency, each), flush=True)
    print("\n".join(f"{'holds' if holds else 'FAILS'}: {bar}" for bar, holds in held.items()))
    load = f"{os.cpu_count()} cores; load {before:.1f} before, {os.getloadavg()[0]:.1f} after"
    print(f"{load}; {', '.join(f'{name} {version(name)}' for name in PACKAGES)}; {arguments.threads} thread(s)")
    if arguments.json:
        options = {name: str(value) for name, value in vars(arguments).items()}
        machine = {"machine": platform.platform(), "load": load, **{name: version(name) for name in PACKAGES}}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        written = {"options": options, "machine": machine, "figures": found, "bars": held}
        arguments.json.write_text(json.dumps(written, indent=1))


if __name__ == "__main__":
    main()
