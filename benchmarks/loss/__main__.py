"""IPA's loss and credit beside a plain masked token loss and a loop over chunks, as ratios in one run.

The plain loss is what a token-level trainer takes: the truncated importance ratio of each token times its
advantage, masked, averaged, and its gradient. The loop is Eq. 8 and 9 of arXiv 2512.24873 written down chunk
by chunk. Rounds alternate, so that all meet the same load, and each figure is the median of its rounds. On a
processor time is processor time, so that what else runs counts little; memory is the peak of what is allocated
beyond the inputs. Credit has no tensor and is given in milliseconds, and as a share of the plain loss.

    python benchmarks/loss --rounds 9

The plain loss makes many tensors as long as the batch, and how long it takes to get their memory from the system
depends on the C library's mood. Its best case, and so the hardest one for IPA, is memory that is never given back:

    MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 python benchmarks/loss
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch
from inputs import Size, token_batch, trajectories
from losses import chunk_loop, plain_loss
from measures import peak_bytes, seconds

from tumbler.contracts.algorithm import Group
from tumbler.contracts.batch import TokenBatch
from tumbler_algorithms.grpo.algorithm import GRPO
from tumbler_algorithms.grpo.settings import GRPOSettings
from tumbler_algorithms.ipa.algorithm import IPA
from tumbler_algorithms.ipa.settings import IPASettings

FIGURES = Path(__file__).parent.parent.parent / ".bench" / "loss.json"
ALGORITHMS = {
    "ipa": IPA(IPASettings()),
    "ipa, chunk-mean": IPA(IPASettings(normalisation="chunk-mean")),
    "ipa, trajectory mask": IPA(IPASettings(mask_level="trajectory")),
    "ipa, token mask": IPA(IPASettings(mask_level="token")),
    "ipa, imitation": IPA(IPASettings(imitation_weight=0.1)),
    "grpo": GRPO(GRPOSettings()),
}
BARS = {"plain_over": 1.5, "memory": 1.3, "loop": 20.0}
"""Bars of `ipa`: time and memory at most so many times the plain loss's, and so many times faster than the loop."""


def steps(size: Size, device: torch.device) -> dict[str, Callable[[], None]]:
    """Return each contender's forward and backward pass."""
    batch = token_batch(size, device)
    imitating = token_batch(size, device, replayed=size.chunks // 2)
    advantage = torch.randn(batch.policy_logprobs.shape, device=device)
    mask = batch.chunk_of_token >= 0

    def plain() -> None:
        torch.autograd.grad(plain_loss(batch, advantage, mask), batch.policy_logprobs)

    def step(algorithm: IPA | GRPO, batch: TokenBatch) -> Callable[[], None]:
        def run() -> None:
            torch.autograd.grad(algorithm.loss(batch).total, batch.policy_logprobs)

        return run

    ours = {
        name: step(algorithm, imitating if "imitation" in name else batch) for name, algorithm in ALGORITHMS.items()
    }
    return {"plain": plain, **ours}


def loop_seconds(size: Size, device: torch.device) -> float:
    """Return the time of the loop over chunks, taken on an eighth of the trajectories."""
    part = Size(trajectories=max(1, size.trajectories // 8), tokens=size.tokens, chunks=size.chunks)
    batch = token_batch(part, device)

    def run() -> None:
        torch.autograd.grad(chunk_loop(batch, part), batch.policy_logprobs)

    return seconds(run, device) * size.trajectories / part.trajectories


def credit_seconds(size: Size) -> float:
    """Return the time of IPA's credit for groups of eight."""
    records = trajectories(size)
    groups = [
        Group(id=str(start), task_id="task", trajectories=tuple(records[start : start + 8]))
        for start in range(0, len(records), 8)
    ]
    algorithm = IPA(IPASettings(baseline="leave-one-out"))
    started = time.process_time()
    for group in groups:
        algorithm.credit(group)
    return time.process_time() - started


def measure(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the figures: of each contender seconds, ratio to the plain loss, and bytes."""
    size = Size(trajectories=arguments.trajectories, tokens=arguments.tokens, chunks=arguments.chunks)
    device = torch.device(arguments.device)
    contenders = steps(size, device)
    rounds: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()
    order = Random(0)
    loops: list[float] = []
    credits_: list[float] = []
    for place in range(arguments.rounds):
        # In another order each time: what one leaves in the allocator's hands makes the next one faster or slower.
        for name in order.sample(list(contenders), len(contenders)):
            rounds[name].append(seconds(contenders[name], device))
        if place % 3 == 0:
            loops.append(loop_seconds(size, device))
            credits_.append(credit_seconds(size))
    rounds |= {"loop over chunks": loops, "credit": credits_}
    figures = {
        name: {
            "seconds": statistics.median(values),
            "over_plain": statistics.median(values) / statistics.median(rounds["plain"])
            if len(values) < arguments.rounds
            else statistics.median(own / plain for own, plain in zip(values, rounds["plain"], strict=True)),
        }
        for name, values in rounds.items()
    }
    for name, run in contenders.items():
        figures[name]["bytes"] = peak_bytes(run, device)
        figures[name]["bytes_over_plain"] = figures[name]["bytes"] / figures["plain"]["bytes"]
    return figures


def table(figures: dict[str, dict[str, float]]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| | ms | × plain | MiB beyond inputs | × plain |", "|---|---|---|---|---|"]
    for name, each in figures.items():
        memory = f"{each['bytes'] / 2**20:.0f} | {each['bytes_over_plain']:.2f}" if "bytes" in each else "– | –"
        lines.append(f"| {name} | {1e3 * each['seconds']:.1f} | {each['over_plain']:.2f} | {memory} |")
    return "\n".join(lines)


def verdicts(figures: dict[str, dict[str, float]]) -> dict[str, bool]:
    """Return which bars hold."""
    ipa, both = figures["ipa"], figures["ipa"]["seconds"] + figures["credit"]["seconds"]
    return {
        f"loss within {BARS['plain_over']}x of plain": ipa["over_plain"] <= BARS["plain_over"],
        f"loss and credit within {BARS['plain_over']}x of plain": both
        <= BARS["plain_over"] * figures["plain"]["seconds"],
        f"memory within {BARS['memory']}x of plain": ipa["bytes_over_plain"] <= BARS["memory"],
        f"at least {BARS['loop']:.0f}x the loop": figures["loop over chunks"]["seconds"]
        >= BARS["loop"] * ipa["seconds"],
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=8192, help="of each trajectory")
    parser.add_argument("--chunks", type=int, default=64, help="of each trajectory")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, default=FIGURES, help="where the figures go")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    figures = measure(arguments)
    held = verdicts(figures)
    print(table(figures))
    print("\n".join(f"{'holds' if holds else 'FAILS'}: {bar}" for bar, holds in held.items()))
    options = {name: str(value) for name, value in vars(arguments).items()}
    machine = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.platform()}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(
        json.dumps({"options": options, "machine": machine, "figures": figures, "bars": held}, indent=1)
    )


if __name__ == "__main__":
    main()
