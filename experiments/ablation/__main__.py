"""Each part of IPA off in turn.

    python -m experiments.ablation

The whole of IPA starts half of its tasks from anchors, imitates what is replayed a little, discounts by chunk, weighs
failures by capped ratios and masks chunks that the engines disagree on. The inference engine's weights are rounded to
five bits, so that there is something to disagree on. Tables go to docs/results.
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
    "no imitation": {"imitation_weight": "0.0"},
    "no anchors, so no imitation": {"anchors": "{ share = 0.0 }", "imitation_weight": "0.0"},
    "no discount": {"gamma": "1.0"},
    "no mask": {"mask_level": '"none"'},
    "no failures": {"failure_reward": "0.0"},
    "one optimizer step": {"minibatches": "1"},
}
"""Arm → what differs from the whole."""

TOKENS: Mapping[str, str] = {
    "use": '"ipa-token"',
    "tasks_per_step": "8",
    "group_size": "8",
    "minibatches": "4",
    "failure_reward": "-0.1",
    "mismatch_threshold": "1.5",
    "gamma": "0.99",
}
"""Token by token, to be compared with the arm without anchors; γ is as much over a chunk of five tokens."""


def arms() -> list[Arm]:
    """Return the whole, each part off, and tokens in place of chunks."""
    tables = {name: {**WHOLE, **changes} for name, changes in PARTS.items()}
    tables["no anchors, tokens for chunks"] = dict(TOKENS)
    return [Arm(name=name, overrides=(f"algorithms.arm={{ {_pairs(table)} }}",)) for name, table in tables.items()]


def _pairs(table: Mapping[str, str]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in table.items())


def final_success(outcome: Outcome) -> float:
    """Return the success on held-out tasks at the end."""
    return outcome.final["trail"]


def main() -> int:
    """Run the study as asked."""
    options = parse_options("ablation", __doc__)
    rounded = 'runs.arm.backends.inference={ use = "transformers", weight_bits = 5 }'
    condition = Condition(name=f"{STEPS} steps", overrides=(f"envs.trail.steps={STEPS}", rounded))
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
