"""How much hangs on what the paper leaves open: γ, H, the reward of failures, the normalisation, baseline.

    python -m experiments.settings

One setting moves at a time around a common centre; H does so where it has something to mask, with the inference
engine's weights rounded to five bits and failures worth -0.1. Tables go to docs/results.
"""

import sys
from collections.abc import Mapping, Sequence

from experiments.study.cells import Arm, Condition
from experiments.study.command import parse_options
from experiments.study.outcomes import Outcome
from experiments.study.report import write_page
from experiments.study.running import run_study
from experiments.study.tables import comparison_table, success_table

STEPS = 8
CENTRE: Mapping[str, str] = {
    "use": '"ipa"',
    "tasks_per_step": "8",
    "group_size": "8",
    "minibatches": "4",
    "failure_reward": "0.0",
    "anchors": "{ share = 0.0 }",
}
GRID: Mapping[str, Sequence[str]] = {
    "gamma": ("0.8", "0.9", "0.99", "1.0"),
    "failure_reward": ("-0.05", "-0.1", "-0.2", "-1.0"),
    "normalisation": ('"chunk-mean"', '"trajectory-mean"', '"token-mean"'),
    "baseline": ('"mean"', '"leave-one-out"', '"whiten"'),
}
"""Setting → values other than the centre's."""
THRESHOLDS = ("1.1", "1.5", "2.0", "5.0")


def arms() -> list[Arm]:
    """Return the centre, and the centre with each setting moved."""
    moved = [
        Arm(name=f"{name} = {value}".replace('"', ""), overrides=(_algorithm({**CENTRE, name: value}),))
        for name, values in GRID.items()
        for value in values
    ]
    return [Arm(name="centre", overrides=(_algorithm(CENTRE),)), *moved]


def threshold_arms() -> list[Arm]:
    """Return H moved, where failures count."""
    counting = {**CENTRE, "failure_reward": "-0.1"}
    return [
        Arm(name=f"mismatch_threshold = {value}", overrides=(_algorithm({**counting, "mismatch_threshold": value}),))
        for value in THRESHOLDS
    ]


def final_success(outcome: Outcome) -> float:
    """Return the success on held-out tasks at the end."""
    return outcome.final["trail"]


def main() -> int:
    """Run the study as asked."""
    options = parse_options("settings", __doc__)
    trail = f"envs.trail.steps={STEPS}"
    rounded = 'runs.arm.backends.inference={ use = "transformers", weight_bits = 5 }'
    exact = Condition(name="exact", overrides=(trail,))
    five = Condition(name="5 bits, failures -0.1", overrides=(trail, rounded))
    seeds = range(options.seeds)
    moved = run_study(options, [exact], arms(), seeds)
    outcomes = [*moved, *run_study(options, [five], threshold_arms(), seeds)]
    table = success_table(outcomes, final_success, corner="setting")
    tables = {"success": table, "differences": comparison_table(moved, final_success, against="centre")}
    write_page("settings", options.results, tables)
    print(table)
    return 0


def _algorithm(settings: Mapping[str, str]) -> str:
    return "algorithms.arm={ " + ", ".join(f"{key} = {value}" for key, value in settings.items()) + " }"


if __name__ == "__main__":
    sys.exit(main())
