"""Credit by chunk against credit by token and by trajectory, on `trail` at growing horizons.

    python -m experiments.credit            # five seeds; about 80 minutes on two cores; interrupted, it goes on
    python -m experiments.credit --quick    # minutes: the sign of the main effect, or exit status 1
    python -m experiments.credit --tune     # choose the learning rates again, on other seeds

All arms of a seed start from one model that has copied short demonstrations, and sample the same number of tokens.
Tables and plots go to docs/results.
"""

import sys
from collections.abc import Sequence
from statistics import fmean

from experiments.credit.arms import ALGORITHMS, LEARNING_RATES, arms, variant
from experiments.study.cells import Arm, Condition
from experiments.study.command import Options, parse_options
from experiments.study.intervals import paired
from experiments.study.outcomes import Outcome
from experiments.study.plots import plot_conditions, plot_curves
from experiments.study.report import write_page
from experiments.study.running import run_study
from experiments.study.tables import comparison_table, success_table, values_of

HORIZONS = (2, 4, 8, 12, 16)
TUNING_SEEDS = (100, 101)
TUNING_HORIZON = 8
QUICK_HORIZON = 8
QUICK_SEEDS = (0, 1)


def horizon(steps: int) -> Condition:
    """Return the condition of trails with so many dependent steps."""
    return Condition(name=f"{steps} steps", overrides=(f"envs.trail.steps={steps}",))


def final_success(outcome: Outcome) -> float:
    """Return the success on held-out tasks at the end."""
    return outcome.final["trail"]


def tune(options: Options) -> None:
    """Choose each arm's learning rate by its mean success on the tuning seeds; print the file to keep."""
    tries = {f"{name}@{rate:g}": (name, rate) for name in ALGORITHMS for rate in LEARNING_RATES}
    compared = [Arm(name=label, overrides=variant(*each).overrides) for label, each in tries.items()]
    outcomes = run_study(options, [horizon(TUNING_HORIZON)], compared, TUNING_SEEDS)
    print(success_table(outcomes, final_success))
    print("\n[learning_rates]")
    for name in ALGORITHMS:
        means = {
            rate: fmean(values_of(outcomes, horizon(TUNING_HORIZON).name, f"{name}@{rate:g}", final_success).values())
            for rate in LEARNING_RATES
        }
        print(f'"{name}" = {max(means, key=lambda rate: means[rate])}')


def check_main_effect(options: Options) -> int:
    """Return 0 if IPA ends above GRPO at equal samples, each at its own learning rate, else 1."""
    ours, theirs = (arm for arm in arms() if arm.name in ("ipa", "grpo"))
    outcomes = run_study(options, [horizon(QUICK_HORIZON)], [ours, theirs], QUICK_SEEDS)
    by_chunk, by_answer = (
        values_of(outcomes, horizon(QUICK_HORIZON).name, arm.name, final_success) for arm in (ours, theirs)
    )
    difference = paired(list(by_chunk.values()), list(by_answer.values()))
    print(success_table(outcomes, final_success))
    print(f"IPA less GRPO: {100 * difference.mean:+.1f} points")
    return 0 if difference.mean > 0 else 1


def write_results(options: Options, outcomes: Sequence[Outcome]) -> None:
    """Write tables and plots."""
    tables = {
        "success": success_table(outcomes, final_success),
        "differences": comparison_table(outcomes, final_success, against="ipa"),
    }
    write_page("credit", options.results, tables)
    plot_conditions(
        outcomes,
        final_success,
        options.results / "credit-horizons.svg",
        positions={horizon(steps).name: steps for steps in HORIZONS},
        xlabel="dependent steps",
        ylabel="success on held-out tasks",
    )
    at_eight = [each for each in outcomes if each.cell.condition == horizon(TUNING_HORIZON).name]
    for metric, name, label, logarithmic in (
        ("rollout/success", "success", "success in training, 8 steps", False),
        ("train/gradient_norm", "gradient", "gradient norm before clipping, 8 steps", True),
    ):
        path = options.results / f"credit-{name}.svg"
        plot_curves(at_eight, metric, path, ylabel=label, logarithmic=logarithmic)


def main() -> int:
    """Run the study as asked."""
    options = parse_options("credit", __doc__)
    if options.tune:
        tune(options)
        return 0
    if options.quick:
        return check_main_effect(options)
    outcomes = run_study(options, [horizon(steps) for steps in HORIZONS], arms(), range(options.seeds))
    write_results(options, outcomes)
    print(success_table(outcomes, final_success))
    return 0


if __name__ == "__main__":
    sys.exit(main())
