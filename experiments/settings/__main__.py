"""How much hangs on what the paper leaves open: γ, H, the reward of failures, the normalisation, baseline.

    python -m experiments.settings

One setting moves at a time around a common centre. Tables go to docs/results.
"""

import sys
from collections.abc import Mapping, Sequence

from experiments.study.cells import Arm, Condition
from experiments.study.command import parse_options
from experiments.study.outcomes import Outcome
from experiments.study.report import write_page
from experiments.study.running import run_study
from experiments.study.tables import success_table

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
    "gamma": ("0.8", "0.9", "0.95", "0.99", "1.0"),
    "mismatch_threshold": ("1.1", "1.5", "2.0", "5.0"),
    "failure_reward": ("0.0", "-0.05", "-0.1", "-0.2", "-1.0"),
    "normalisation": ('"sum"', '"chunk-mean"', '"trajectory-mean"', '"token-mean"'),
    "baseline": ('"none"', '"mean"', '"leave-one-out"', '"whiten"'),
}


def arms() -> list[Arm]:
    """Return the centre with each setting moved."""
    return [
        Arm(name=f"{name} = {value}".replace('"', ""), overrides=(f"algorithms.arm={_table({**CENTRE, name: value})}",))
        for name, values in GRID.items()
        for value in values
    ]


def final_success(outcome: Outcome) -> float:
    """Return the success on held-out tasks at the end."""
    return outcome.final["trail"]


def main() -> int:
    """Run the study as asked."""
    options = parse_options("settings", __doc__)
    condition = Condition(name=f"{STEPS} steps", overrides=(f"envs.trail.steps={STEPS}",))
    outcomes = run_study(options, [condition], arms(), range(options.seeds))
    table = success_table(outcomes, final_success, corner="setting")
    write_page("settings", options.results, {"success": table})
    print(table)
    return 0


def _table(settings: Mapping[str, str]) -> str:
    return "{ " + ", ".join(f"{key} = {value}" for key, value in settings.items()) + " }"


if __name__ == "__main__":
    sys.exit(main())
