"""Arm B's answers as tables, and whether they agree with arm A; knows no model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from experiments.context.asking import Answer
from experiments.context.scores import Share, difference
from experiments.context.tables import markdown, signed
from experiments.study.intervals import Interval

__all__ = ["agreement_table", "answer_table"]

_MISSING: Final = "(Arm B has not been run.)"


def answer_table(answers: Sequence[Answer]) -> str:
    """Return for each arm how often the model chooses and says the right answer."""
    if not answers:
        return _MISSING
    rows = []
    for arm in dict.fromkeys(each.arm for each in answers):
        mine = [each for each in answers if each.arm == arm]
        asked = [each for each in mine if each.tokens]
        rows.append(
            [
                arm,
                _share(each.scripted for each in mine),
                _share(each.kept for each in mine),
                _share(each.chosen for each in mine),
                _share(each.bound for each in mine),
                _share(each.exact for each in mine),
                f"{sum(each.tokens for each in asked) / max(1, len(asked)):.0f}",
            ]
        )
    head = [
        "arm",
        "scripted policy solves",
        "answer in the prompt",
        "chosen among made-up",
        "and among told",
        "said",
        "tokens",
    ]
    return markdown(head, rows)


def agreement_table(answers: Sequence[Answer], pairs: Sequence[tuple[str, str]]) -> str:
    """Return for pairs of arms the differences in arms A and B on the same tasks, and whether both exclude 0."""
    if not answers:
        return _MISSING
    rows = []
    for first, second in pairs:
        if not {first, second} <= {each.arm for each in answers}:
            continue
        scores: Sequence[Callable[[Answer], bool]] = (
            lambda answer: answer.scripted,
            lambda answer: answer.chosen,
            lambda answer: answer.bound,
        )
        found = [_difference(answers, first, second, score) for score in scores]
        verdicts = ["yes" if _agree(found[0], each) else "no" for each in found[1:]]
        rows.append([f"{first} − {second}", *map(signed, found), *verdicts])
    head = [
        "difference, points",
        "script (A)",
        "chosen (B)",
        "and among told (B)",
        "A and chosen agree",
        "A and told agree",
    ]
    return markdown(head, rows)


def _agree(first: Interval, second: Interval) -> bool:
    """Return whether two differences have one sign, and both intervals exclude 0."""
    return (first.low > 0 and second.low > 0) or (first.high < 0 and second.high < 0)


def _difference(answers: Sequence[Answer], first: str, second: str, score: Callable[[Answer], bool]) -> Interval:
    families = list(dict.fromkeys(each.family for each in answers))
    return difference(_scores(answers, first, score), _scores(answers, second, score), families)


def _scores(answers: Sequence[Answer], arm: str, score: Callable[[Answer], bool]) -> Mapping[tuple[str, int], bool]:
    return {(each.family, each.seed): score(each) for each in answers if each.arm == arm}


def _share(hits: Iterable[bool]) -> str:
    values = list(hits)
    return str(Share(hits=sum(values), count=len(values)))
