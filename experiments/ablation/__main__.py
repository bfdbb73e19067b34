"""Each part of IPA off in turn.

    python -m experiments.ablation

The whole of IPA starts half of its tasks from anchors, imitates what is replayed a little, discounts by chunk, weighs
failures by capped ratios and masks chunks that the engines disagree on. Tables go to docs/results.
"""

import sys
from collections.abc import Mapping

from experiments.study.cells import Arm, Condition
from experiments.study.command import parse_options
from experiments.study.outcomes import Outcome
from experiments.study.report import write_page
from experiments.study.running import run_study
from experiments.study.tables import comparison_table, success_table

STEPS = 8
WHOLE: Mapping[str, str] = {
    "use": '"ipa"',
    "tasks_per_step": "8",
    "group_size": "8",
    "minibatches": "4",
    "failure_reward": "-0.1",
    "imitation_weight": "0.1",
    "mismatch_threshold": "1.5",
    "anchors": "{ share = 0.5, per_task = 2, group_size = 4 }",
}
PARTS: Mapping[str, Mapping[str, str]] = {
    "whole": {},
    "no anchors": {"anchors": "{ share = 0.0 }"},
    "no imitation": {"imitation_weight": "0.0"},
    "no discount": {"gamma": "1.0"},
    "no mask": {"mask_level": '"none"'},
    "no failures": {"failure_reward": "0.0"},
    "token ratio and credit": {"use": '"ipa-token"'},
    "one optimizer step": {"minibatches": "1"},
}
"""Arm → what differs from the whole."""

TOKEN_SETTINGS = ("use", "tasks_per_step", "group_size", "minibatches", "failure_reward")
"""What the token-level algorithm has of the settings."""


def arms() -> list[Arm]:
    """Return the whole, and each part off."""
    made = []
    for name, changes in PARTS.items():
        settings = {**WHOLE, **changes}
        if settings["use"] == '"ipa-token"':
            settings = {key: value for key, value in settings.items() if key in TOKEN_SETTINGS}
        table = ", ".join(f"{key} = {value}" for key, value in settings.items())
        made.append(Arm(name=name, overrides=(f"algorithms.arm={{ {table} }}",)))
    return made


def final_success(outcome: Outcome) -> float:
    """Return the success on held-out tasks at the end."""
    return outcome.final["trail"]


def main() -> int:
    """Run the study as asked."""
    options = parse_options("ablation", __doc__)
    condition = Condition(name=f"{STEPS} steps", overrides=(f"envs.trail.steps={STEPS}",))
    outcomes = run_study(options, [condition], arms(), range(options.seeds))
    tables = {
        "success": success_table(outcomes, final_success),
        "differences": comparison_table(outcomes, final_success, against="whole"),
    }
    write_page("ablation", options.results, tables)
    print(success_table(outcomes, final_success))
    return 0


if __name__ == "__main__":
    sys.exit(main())
