"""The measures of the context benchmark: intervals, flips, cached tokens, and the separation that CI asks for."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from experiments.context.answering import agreement_table, answer_table
from experiments.context.arms import ARMS, CEILING
from experiments.context.asking import Answer, load_answers
from experiments.context.episodes import play
from experiments.context.measures import Measured, shared_tokens
from experiments.context.scores import Flips, Share, by_task, difference, flips
from experiments.context.tables import arm_table, cost_table, family_table, late_table


def measured(arm: str, solved: list[bool], family: str = "shown-once fact") -> list[Measured]:
    return [
        Measured(arm=arm, family=family, seed=seed, success=success, told=1, prompt_tokens=10, ending="terminated")
        for seed, success in enumerate(solved)
    ]


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)]
)
def test_wilson_intervals_are_those_of_the_textbook(hits: int, count: int, low: float, high: float) -> None:
    assert Share(hits=hits, count=count).bounds == pytest.approx((low, high), abs=1e-4)


def test_flips_are_counted_on_the_tasks_that_both_have_played() -> None:
    ours, theirs = measured("a", [True, False, True]), measured("b", [False, True, True, True])
    assert flips(by_task(ours), by_task(theirs)) == Flips(lost=1, won=1)


def test_a_difference_is_paired_by_task() -> None:
    ours, theirs = measured("a", [True] * 20), measured("b", [False, True] * 10)
    gain = difference(by_task(ours), by_task(theirs), ["shown-once fact"])
    assert gain.mean == pytest.approx(0.5)
    assert gain.low > 0


@pytest.mark.parametrize(("first", "second", "shared"), [((1, 2, 3), (1, 2, 4), 2), ((), (1,), 0), ((1, 2), (1, 2), 2)])
def test_shared_tokens_are_those_at_the_beginning(first: tuple[int, ...], second: tuple[int, ...], shared: int) -> None:
    assert shared_tokens(first, second) == shared


async def test_an_append_only_conversation_has_all_but_its_newest_part_cached() -> None:
    whole = await play(CEILING, "shown-once fact", 1)
    cut = await play(next(arm for arm in ARMS if arm.name == "window"), "shown-once fact", 1)
    assert whole.segments == 1
    assert whole.prompt_tokens - whole.cached_tokens <= whole.peak
    assert cut.segments > 1
    assert cut.cached_tokens / cut.prompt_tokens < whole.cached_tokens / whole.prompt_tokens


async def test_what_a_strategy_asks_the_model_is_counted() -> None:
    summed = await play(next(arm for arm in ARMS if arm.name == "summary"), "shown-once fact", 1)
    assert 0 < summed.strategy_tokens < summed.tokens


def test_tables_name_each_arm_once() -> None:
    both = [*measured("ceiling", [True, True]), *measured("window", [True, False])]
    for table in (arm_table(both), cost_table(both), family_table(both)):
        assert table.count("| *ceiling* |") == 1
        assert table.count("| window |") == 1
    assert "| window | 50 [9, 91] | 1 | 0 |" in arm_table(both)


def test_late_answers_that_were_never_shown_are_listed() -> None:
    lost = Measured(arm="window", family="f", seed=0, unshown=("The result of beta is 1.",), ending="terminated")
    assert "| window | 1 of 1 |" in late_table([lost], "f")


def test_answers_come_back_from_their_file_and_agree_only_where_both_intervals_do(tmp_path: Path) -> None:
    def answers(arm: str, scripted: bool, chosen: list[bool]) -> list[Answer]:
        return [
            Answer(arm=arm, family="f", seed=seed, scripted=scripted, kept=scripted, chosen=each, tokens=10)
            for seed, each in enumerate(chosen)
        ]

    given = [*answers("summary", True, [True] * 6), *answers("mask-observations", False, [False] * 6)]
    path = tmp_path / "answers.jsonl"
    assert load_answers(path) == []
    path.write_text("".join(f"{json.dumps(asdict(each))}\n" for each in given), encoding="utf-8")
    assert load_answers(path) == given
    assert "| summary | 100 [61, 100] |" in answer_table(given)
    assert agreement_table(given, [("summary", "mask-observations")]).endswith("| yes | no |")
    unclear = [*answers("summary", True, [True, False] * 3), *answers("mask-observations", False, [False, True] * 3)]
    assert agreement_table(unclear, [("summary", "mask-observations")]).endswith("| no | no |")


def test_tables_of_an_arm_that_was_not_run_say_so() -> None:
    assert answer_table([]) == agreement_table([], []) == "(Arm B has not been run.)"
