"""Reads what the tests wrote as their reward; knows no sandbox."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Rewards", "rewards_of_exit", "rewards_of_json", "rewards_of_text"]


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """What the tests gave."""

    reward: float | None = None
    """The one that counts; None where `problem` says why there is none."""
    all: Mapping[str, float] = field(default_factory=dict)
    """Each by its name, where the tests name them."""
    problem: str | None = None


def rewards_of_json(data: bytes, *, key: str) -> Rewards:
    """Read reward.json: a number, or an object of numbers of which the key's one counts, or the only one."""
    try:
        found = json.loads(data)
    except ValueError as error:  # of JSON and of UTF-8
        return Rewards(problem=f"reward.json is no JSON: {error}")
    except RecursionError:
        return Rewards(problem="reward.json is nested too deeply")
    if not isinstance(found, dict):
        number = _number(found)
        return Rewards(reward=number, problem=None if number is not None else "reward.json holds no finite number")
    numbers = {name: number for name, value in found.items() if (number := _number(value)) is not None}
    if len(numbers) < len(found):
        return Rewards(all=numbers, problem="reward.json holds something that is no finite number")
    if key in numbers:
        return Rewards(reward=numbers[key], all=numbers)
    if len(numbers) == 1:
        return Rewards(reward=next(iter(numbers.values())), all=numbers)
    return Rewards(all=numbers, problem=f"reward.json has no {key!r}; set reward_key to one of its names")


def rewards_of_text(data: bytes) -> Rewards:
    """Read reward.txt: one number."""
    try:
        number = _number(float(data))
    except ValueError:
        number = None
    return Rewards(reward=number, problem=None if number is not None else "reward.txt holds no finite number")


def rewards_of_exit(exit_code: int) -> Rewards:
    """Read the exit status of tests that wrote no reward."""
    return Rewards(reward=float(exit_code == 0))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
