"""Both sides in one process, which can import verl and Tumbler; prints what it found as JSON."""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from random import Random

import torch
from inputs import Inputs, make
from torch import Tensor
from verl.trainer.ppo import core_algos
from verl.workers.config import ActorConfig

from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler_algorithms.cispo.algorithm import CISPO
from tumbler_algorithms.cispo.settings import CISPOSettings
from tumbler_algorithms.grpo.algorithm import GRPO
from tumbler_algorithms.grpo.settings import GRPOSettings
from tumbler_algorithms.gspo.algorithm import GSPO
from tumbler_algorithms.gspo.settings import GSPOSettings

__all__: list[str] = []


@dataclass(frozen=True, kw_only=True)
class Formula:
    """One loss as both sides have it."""

    ours: Callable[[TokenBatch], LossOutput]
    name: str
    """By which verl has it."""
    average: str
    """verl's name for what the loss is averaged over."""
    low: float
    high: float


FORMULAS = {
    "grpo": Formula(
        ours=GRPO(GRPOSettings(dual_clip=3.0, normalisation="token-mean")).loss,
        name="vanilla",
        average="token-mean",
        low=0.2,
        high=0.2,
    ),
    "gspo": Formula(
        ours=GSPO(GSPOSettings(variant="token")).loss,
        name="gspo",
        average="seq-mean-token-mean",
        low=3e-4,
        high=4e-4,
    ),
    "cispo": Formula(
        ours=CISPO(CISPOSettings(clip_low=1.0)).loss, name="cispo", average="token-mean", low=1.0, high=4.0
    ),
}
"""The same formulas: verl clips vanilla losses twice, and its `gspo` is GSPO-token."""


def our_advantages(inputs: Inputs) -> Tensor:
    """Return the credit of each chunk, [C]."""
    algorithm = GRPO(GRPOSettings())
    return torch.tensor([*chain.from_iterable(chain.from_iterable(algorithm.credit(each) for each in inputs.groups))])


def their_advantages(inputs: Inputs, name: str) -> Tensor:
    """Return the advantage of each token, [B, T]."""
    scores = torch.zeros_like(inputs.mask)
    scores[:, -1] = inputs.rewards
    advantages: Tensor = core_algos.get_adv_estimator_fn(name)(scores, inputs.mask, inputs.group_of)[0]
    return advantages


def their_loss(formula: Formula, inputs: Inputs, advantages: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return what computes verl's loss and its gradient."""
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=8,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio_low=formula.low,
        clip_ratio_high=formula.high,
    )
    function = core_algos.get_policy_loss_fn(formula.name)

    def run() -> tuple[Tensor, Tensor]:
        loss, _ = function(
            old_log_prob=inputs.old,
            log_prob=inputs.policy,
            advantages=advantages,
            response_mask=inputs.mask,
            loss_agg_mode=formula.average,
            config=config,
        )
        return loss.detach(), torch.autograd.grad(loss, inputs.policy)[0]

    return run


def our_loss(formula: Formula, inputs: Inputs, credit: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return what computes our loss and its gradient, divided as the training backend does."""
    batch = inputs.token_batch(credit)

    def run() -> tuple[Tensor, Tensor]:
        output = formula.ours(batch)
        loss = output.total / output.denominator
        return loss.detach(), torch.autograd.grad(loss, inputs.policy)[0]

    return run


def measure(inputs: Inputs, rounds: int) -> dict[str, dict[str, float]]:
    """Return milliseconds, ratios and differences by row."""
    credit, advantages = our_advantages(inputs), their_advantages(inputs, "grpo")
    spread = credit[inputs.chunk_of_token.clamp(min=0)] * inputs.mask
    rows: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {}
    apart = {"advantage": float((spread - advantages).abs().max())}
    rows["advantage"] = (lambda: our_advantages(inputs), lambda: their_advantages(inputs, "grpo"))
    rows["advantage, vectorised there"] = (
        lambda: our_advantages(inputs),
        lambda: their_advantages(inputs, "grpo_vectorized"),
    )
    for name, formula in FORMULAS.items():
        ours, theirs = our_loss(formula, inputs, credit), their_loss(formula, inputs, advantages)
        (loss, gradient), (their_value, their_gradient) = ours(), theirs()
        largest = float(their_gradient.abs().max())
        apart[name] = max(float((loss - their_value).abs()), float((gradient - their_gradient).abs().max()) / largest)
        rows[name] = (ours, theirs)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    order = Random(0)
    for _ in range(rounds + 1):
        for name in order.sample(list(rows), len(rows)):
            sides = [0, 1] if order.random() < 0.5 else [1, 0]
            took = {side: _milliseconds(rows[name][side]) for side in sides}
            found[name].append((took[0], took[1]))
    return {name: _summary(pairs[1:], apart.get(name)) for name, pairs in found.items()}


def _milliseconds(run: Callable[[], object]) -> float:
    # Of the processor: what else runs on the machine counts little.
    started = time.process_time()
    run()
    return 1000 * (time.process_time() - started)


def _summary(pairs: list[tuple[float, float]], apart: float | None) -> dict[str, float]:
    ratios = [theirs / ours for ours, theirs in pairs]
    summary = {
        "ours_ms": statistics.median(ours for ours, _ in pairs),
        "verl_ms": statistics.median(theirs for _, theirs in pairs),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }
    return summary if apart is None else {**summary, "apart": apart}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("trajectories", "tokens", "chunks", "group", "rounds", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    inputs = make(trajectories=given.trajectories, tokens=given.tokens, chunks=given.chunks, group=given.group)
    figures = measure(inputs, given.rounds)
    versions = {name: version(name) for name in ("verl", "torch")}
    print(json.dumps({"versions": versions, "figures": figures}))


if __name__ == "__main__":
    main()
