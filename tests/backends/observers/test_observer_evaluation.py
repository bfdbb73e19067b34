"""The sentence that sums a run up says what the figures say."""

from tumbler.contracts.values import JSONObject
from tumbler_backends.observers.evaluation import evaluations, outcome_sentence


def stage(label: str, **rates: tuple[float, float, float]) -> JSONObject:
    envs = {
        env: {
            "episodes": 100,
            "successes": round(100 * rate),
            "success_rate": rate,
            "wilson_low": low,
            "wilson_high": high,
        }
        for env, (rate, low, high) in rates.items()
    }
    return {"kind": "eval", "label": label, "envs": envs}


def sentence(*stages: JSONObject) -> str:
    return outcome_sentence(evaluations(stages))


def test_a_rise_is_told_from_the_first_to_the_last_evaluation() -> None:
    told = sentence(
        stage("1-eval", trail=(0.42, 0.35, 0.49)),
        stage("3-eval", trail=(0.6, 0.5, 0.7)),
        stage("5-eval", trail=(0.93, 0.89, 0.96)),
    )
    assert told == "Held-out success rose from 42 % [35, 49] to 93 % [89, 96]."


def test_a_fall_and_overlapping_intervals_are_not_hidden() -> None:
    told = sentence(stage("1-eval", trail=(0.5, 0.4, 0.6)), stage("3-eval", trail=(0.45, 0.35, 0.55)))
    assert told == "Held-out success fell from 50 % [40, 60] to 45 % [35, 55] (the intervals overlap)."


def test_one_evaluation_is_no_change() -> None:
    assert sentence(stage("1-eval", trail=(0.5, 0.4, 0.6))) == "Held-out success is 50 % [40, 60]."


def test_each_environment_is_named_if_there_are_several() -> None:
    told = sentence(stage("1-eval", a=(0.1, 0.0, 0.2), b=(0.5, 0.4, 0.6)), stage("2-eval", a=(0.1, 0.0, 0.2)))
    assert told == "Held-out success on a stayed at 10 % [0, 20]; on b is 50 % [40, 60]."


def test_nothing_is_said_without_evaluations() -> None:
    assert sentence({"kind": "sft", "label": "1-sft"}) == ""


def test_missing_figures_are_not_invented() -> None:
    found = evaluations([{"label": "1-eval", "envs": {"a": {"success_rate": 0.5}, "b": {"episodes": 3}}}])
    assert [(each.env, each.low, each.high, each.mean_turns) for each in found] == [("a", 0.5, 0.5, None)]
