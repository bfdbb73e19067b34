"""Rollouts from one anchor, each row computed separately beside their common prefix computed once.

Both compute the same log-probabilities and gradients with the `torch` training backend, from the same trajectories.
The rounds alternate, so that both meet the same load; times are of laying the rows out, forward and backward pass.

    python benchmarks/prefixes --rounds 5
"""

import argparse
import gc
import statistics
import time
from collections.abc import Iterator, Sequence

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tumbler.trajectory import Chunk, Component, Header, Segment, Trajectory
from tumbler_backends.training.torch.batching import computed_tokens
from tumbler_backends.training.torch.collate import collate
from tumbler_backends.training.torch.layout import Example
from tumbler_backends.training.torch.policy import Policy

VOCABULARY = 512
ROLLOUTS = 8
CHUNKS = 8
SIZES = {"2 layers, 0.1M": (2, 64, 4), "6 layers, 6M": (6, 288, 6)}
"""Layers, hidden size and heads."""


def policies(size: str) -> dict[bool, Policy]:
    """Return the same model twice: without and with shared prefixes."""
    made: dict[bool, Policy] = {}
    for share in (False, True):
        torch.manual_seed(0)
        layers, hidden, heads = SIZES[size]
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            intermediate_size=8 * hidden // 3,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=8192,
        )
        made[share] = Policy(AutoModelForCausalLM.from_config(config).eval(), share_prefixes=share)
        assert made[share].shares is share
    return made


def rollouts(length: int, anchor: int) -> list[Example]:
    """Return rollouts of `length` tokens whose first `anchor` are the same; half of each chunk is the policy's."""
    generator = torch.Generator().manual_seed(1)
    expert = torch.randint(VOCABULARY, (anchor,), generator=generator).tolist()
    component = Component(id="benchmark", version="0", settings_hash="")
    examples = []
    for index in range(ROLLOUTS):
        tokens = expert + torch.randint(VOCABULARY, (length - anchor,), generator=generator).tolist()
        stretch = length // CHUNKS
        starts = [(chunk * stretch + stretch // 2, (chunk + 1) * stretch) for chunk in range(CHUNKS)]
        trajectory = Trajectory(
            header=Header(id=str(index), task="task", env=component, agent=component),
            segments=(Segment(id=0, token_ids=tuple(tokens)),),
            chunks=tuple(
                Chunk(segment=0, start=start, end=end, replayed=end <= anchor, trainable=end > anchor)
                for start, end in starts
            ),
        )
        trained = tuple(chunk for chunk, (_, end) in enumerate(starts) if end > anchor)
        imitated = tuple(chunk for chunk, (_, end) in enumerate(starts) if end <= anchor)
        examples.append(Example(trajectory=trajectory, trained=trained, imitated=imitated))
    return examples


def seconds(policy: Policy, examples: Sequence[Example]) -> float:
    """Return the time of a forward and a backward pass."""
    policy.zero_grad()
    gc.collect()
    started = time.perf_counter()
    policy(collate(examples, device=torch.device("cpu"))).logprobs.sum().backward()
    return time.perf_counter() - started


def deviation(both: dict[bool, Policy], examples: Sequence[Example]) -> float:
    """Return how far the gradients are apart, relative to their norm."""
    for policy in both.values():
        seconds(policy, examples)
    plain, shared = (
        torch.cat([each.grad.flatten() for each in both[share].parameters() if each.grad is not None])
        for share in (False, True)
    )
    return float((shared - plain).norm() / plain.norm())


def rows(lengths: Sequence[int], shares: Sequence[float], rounds: int) -> Iterator[str]:
    """Measure, and yield the lines of a table."""
    yield "| model | tokens of a rollout | in common | tokens computed | time, median | rounds | gradient apart |"
    yield "|---|---|---|---|---|---|---|"
    for size in SIZES:
        both = policies(size)
        for length in lengths:
            for share in shares:
                examples = rollouts(length, int(length * share))
                apart = deviation(both, examples)
                ratios = []
                for _ in range(rounds):
                    separate, shared = (seconds(both[share], examples) for share in (False, True))
                    ratios.append(shared / separate)
                tokens = computed_tokens(examples, share=True) / computed_tokens(examples, share=False)
                spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
                middle = statistics.median(ratios)
                yield f"| {size} | {length} | {share:.0%} | {tokens:.3f} | {middle:.2f} | {spread} | {apart:.0e} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5, 0.75])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for line in rows(given.lengths, given.shares, given.rounds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
