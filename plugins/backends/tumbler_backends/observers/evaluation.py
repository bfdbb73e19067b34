"""Evaluation results as figures and as a sentence; knows no display and no file."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tumbler.contracts.values import JSONObject
from tumbler_backends.observers.reading import integer, number, table, text

__all__ = ["Evaluation", "by_environment", "evaluations", "outcome_sentence", "percent", "percent_interval"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One environment's result in one evaluation stage. Rates lie in [0, 1]."""

    stage: str
    after: str
    """The stage whose weights were judged; empty for the model that the run started from."""
    env: str
    episodes: int
    successes: int
    rate: float
    low: float
    high: float
    mean_turns: float | None
    infra_failed: int


def evaluations(stages: Iterable[JSONObject]) -> tuple[Evaluation, ...]:
    """Return what the stage results of a run say about success, in the order of the stages."""
    return tuple(
        _evaluation(stage, env, table(figures))
        for stage in stages
        for env, figures in table(stage.get("envs")).items()
        if number(table(figures).get("success_rate")) is not None
    )


def _evaluation(stage: JSONObject, env: str, figures: JSONObject) -> Evaluation:
    rate = number(figures.get("success_rate")) or 0.0
    low, high = number(figures.get("wilson_low")), number(figures.get("wilson_high"))
    return Evaluation(
        stage=text(stage.get("label")),
        after=text(stage.get("after")),
        env=env,
        episodes=integer(figures.get("episodes")),
        successes=integer(figures.get("successes")),
        rate=rate,
        low=rate if low is None else low,
        high=rate if high is None else high,
        mean_turns=number(figures.get("mean_turns")),
        infra_failed=integer(figures.get("infra_failed")),
    )


def by_environment(found: Iterable[Evaluation]) -> dict[str, list[Evaluation]]:
    """Return the evaluations of each environment, in the order of the stages."""
    grouped: dict[str, list[Evaluation]] = {}
    for each in found:
        grouped.setdefault(each.env, []).append(each)
    return grouped


def percent(share: float) -> str:
    """Return a share as a whole percentage."""
    return f"{100 * share:.0f} %"


def percent_interval(evaluation: Evaluation) -> str:
    """Return the rate with its interval: 42 % [35, 49]."""
    return f"{percent(evaluation.rate)} [{100 * evaluation.low:.0f}, {100 * evaluation.high:.0f}]"


def outcome_sentence(found: Sequence[Evaluation]) -> str:
    """Say in one sentence how success changed from the first to the last evaluation; empty without one."""
    grouped = by_environment(found)
    clauses = [_clause(env if len(grouped) > 1 else "", each[0], each[-1]) for env, each in grouped.items()]
    return f"Held-out success {'; '.join(clauses)}." if clauses else ""


def _clause(env: str, first: Evaluation, last: Evaluation) -> str:
    where = f"on {env} " if env else ""
    if first is last:
        return f"{where}is {percent_interval(last)}"
    if first.rate == last.rate:
        return f"{where}stayed at {percent_interval(last)}"
    verb = "rose" if last.rate > first.rate else "fell"
    overlap = first.low <= last.high and last.low <= first.high
    remark = " (the intervals overlap)" if overlap else ""
    return f"{where}{verb} from {percent_interval(first)} to {percent_interval(last)}{remark}"
