"""What may be set, and the vocabulary."""

import itertools
import shutil
import subprocess

import pytest
from pydantic import ValidationError

from tumbler_envs.trail.settings import TrailSettings
from tumbler_envs.trail.words import (
    CHOOSE,
    COMPUTE,
    KEYS,
    LABELS,
    NAMES,
    OPERATORS,
    OUTPUT,
    START,
    UNPACK,
    VALUE,
)

WORDS = (*NAMES, *LABELS, *KEYS, *OPERATORS, START, OUTPUT, UNPACK, COMPUTE, CHOOSE, VALUE)


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"steps": 17},
        {"steps": [0, 4]},
        {"steps": [4, 17]},
        {"branching": 0},
        {"branching": 6},
        {"distractors": -1},
        {"kinds": []},
        {"kinds": ["ladder"]},
        {"shell": "zsh"},
        {"noise": 1.0},
        {"success_reward": 0.0},
        {"failure_reward": 0.5},
        {"success_reward": float("inf")},
        {"stepps": 4},
    ],
)
def test_impossible_settings_are_refused(bad):
    with pytest.raises(ValidationError):
        TrailSettings.model_validate(bad)


def test_a_reversed_range_is_refused_with_the_way_to_mend_it():
    with pytest.raises(ValidationError, match=r"write \[2, 5\]"):
        TrailSettings.model_validate({"steps": [5, 2]})


def test_one_number_of_steps_is_a_range_of_one():
    assert TrailSettings(steps=3).step_bounds == (3, 3)
    assert TrailSettings.model_validate({"steps": [2, 6]}).step_bounds == (2, 6)


def test_words_are_short_and_cannot_be_confused():
    assert len(NAMES) >= 60
    assert len(set(WORDS)) == len(WORDS)
    assert all(word.isalpha() and word.islower() and len(word) <= 8 for word in WORDS)
    assert not [(one, other) for one, other in itertools.permutations(WORDS, 2) if one.startswith(other)]
    assert len({word[:3] for word in NAMES}) == len(NAMES)


def test_no_word_is_a_program_or_means_something_to_bash():
    output = subprocess.run(["bash", "-c", "compgen -kb"], capture_output=True, text=True, check=True).stdout
    assert not set(WORDS) & set(output.split())
    assert not [word for word in WORDS if shutil.which(word)]
