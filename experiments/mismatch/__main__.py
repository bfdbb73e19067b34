"""Masks by token, chunk and trajectory, as the engine that samples drifts away from the one that trains.

    python -m experiments.mismatch

Mismatch is an inference policy whose weights are rounded to fewer and fewer bits; staleness is one that gets new
weights only every few steps. Tables and plots go to docs/results.
"""

import math
import sys
from collections.abc import Sequence

from experiments.study.cells import Arm, Condition
from experiments.study.command import Options, parse_options
from experiments.study.outcomes import Outcome
from experiments.study.plots import plot_conditions, plot_curves
from experiments.study.report import write_page
from experiments.study.running import run_study
from experiments.study.tables import comparison_table, figure_table, success_table

STEPS = 6
_SETTINGS = 'use = "ipa", tasks_per_step = 8, group_size = 8, minibatches = 4, anchors = { share = 0.0 }'
MASKS = {
    "no mask": 'mask_level = "none"',
    "token mask": 'mask_level = "token"',
    "chunk mask (IPA)": 'mask_level = "chunk"',
    "trajectory mask": 'mask_level = "trajectory"',
}
BITS = {"8 bits": 8, "6 bits": 6, "5 bits": 5, "4 bits": 4, "3 bits": 3}
DELAYS = {"delay 2": 2, "delay 4": 4}


def conditions() -> list[Condition]:
    """Return the rising mismatch, then the rising staleness."""
    rounded = [Condition(name=name, overrides=(_inference(bits),)) for name, bits in BITS.items()]
    late = [Condition(name=name, overrides=(f"runs.arm.rl.publish_every={steps}",)) for name, steps in DELAYS.items()]
    # Old weights are kept for as long as they sample, or staleness would be invisible.
    shared = (f"envs.trail.steps={STEPS}", "backends.torch.snapshots=5")
    return [Condition(name=each.name, overrides=(*shared, *each.overrides)) for each in (*rounded, *late)]


def arms() -> list[Arm]:
    """Return IPA with each of its masks; failures count, since they are what a ratio can blow up."""
    settings = f'{_SETTINGS}, failure_reward = -0.1, mismatch_threshold = 1.5, old_policy = "snapshot"'
    return [Arm(name=name, overrides=(f"algorithms.arm={{ {settings}, {mask} }}",)) for name, mask in MASKS.items()]


def final_success(outcome: Outcome) -> float:
    """Return the success on held-out tasks at the end, by the engine that samples."""
    return outcome.final["trail"]


def worst_gradient(outcome: Outcome) -> float:
    """Return the largest gradient norm before clipping of any optimizer step that was taken."""
    return max(outcome.samples("train/gradient_norms"), default=math.nan)


def skipped(outcome: Outcome) -> float:
    """Return how many optimizer steps were not taken since loss or gradient was not finite."""
    return sum(value for value in outcome.curve("train/skipped_steps") if math.isfinite(value))


def masked(outcome: Outcome) -> float:
    """Return the mean share of tokens that the mask left out."""
    values = [value for value in outcome.curve("ipa/mask_token_share") if math.isfinite(value)]
    return sum(values) / len(values) if values else math.nan


def write_results(options: Options, outcomes: Sequence[Outcome]) -> None:
    """Write tables and plots."""
    tables = {
        "success": success_table(outcomes, final_success),
        "differences": comparison_table(outcomes, final_success, against="chunk mask (IPA)"),
        "gradient": figure_table(outcomes, worst_gradient),
        "skipped": figure_table(outcomes, skipped),
        "masked": success_table(outcomes, masked),
    }
    write_page("mismatch", options.results, tables)
    plot_conditions(
        outcomes,
        final_success,
        options.results / "mismatch-success.svg",
        positions={name: place for place, name in enumerate(BITS)},
        xlabel="weights of the inference policy",
        ylabel="success on held-out tasks",
    )
    four = [each for each in outcomes if each.cell.condition == "4 bits"]
    path = options.results / "mismatch-gradient.svg"
    plot_curves(four, "train/gradient_norm", path, ylabel="gradient norm before clipping, 4 bits", logarithmic=True)


def main() -> int:
    """Run the study as asked."""
    options = parse_options("mismatch", __doc__)
    outcomes = run_study(options, conditions(), arms(), range(options.seeds))
    write_results(options, outcomes)
    print(success_table(outcomes, final_success))
    return 0


def _inference(bits: int) -> str:
    return f'runs.arm.backends.inference={{ use = "transformers", weight_bits = {bits} }}'


if __name__ == "__main__":
    sys.exit(main())
