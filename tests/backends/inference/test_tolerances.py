"""When a canary's log-probabilities are near enough."""

import pytest

from tumbler.contracts.inference import Canary
from tumbler_backends.inference.tolerances import canary_problem


def problem(gap, *, ours="float32", theirs="float32", tolerance=None):
    canary = Canary(token_ids=(1, 2, 3), logprobs=(-1.0, -2.0), dtype=ours)
    return canary_problem(canary, [-1.0, -2.0 - 2 * gap], dtype=theirs, tolerance=tolerance)


@pytest.mark.parametrize(
    ("ours", "theirs", "near", "far"),
    [
        ("float32", "float32", 5e-4, 2e-3),
        ("float64", "float32", 5e-4, 2e-3),
        ("bfloat16", "float32", 0.15, 0.25),
        ("float32", "bfloat16", 0.15, 0.25),
        ("float32", "float16", 0.02, 0.04),
    ],
)
def test_the_coarser_type_decides(ours, theirs, near, far):
    assert problem(near, ours=ours, theirs=theirs) == ""
    assert f"{far:.3g} nats off" in problem(far, ours=ours, theirs=theirs)


def test_a_tolerance_that_is_set_goes_before_the_types():
    assert problem(0.4, ours="bfloat16", tolerance=0.5) == ""
    assert "`canary_tolerance`" in problem(5e-4, tolerance=1e-4)


@pytest.mark.parametrize("found", [[-1.0], [], [-1.0, float("nan")], [-1.0, float("-inf")]])
def test_an_answer_that_is_none_is_a_problem(found):
    canary = Canary(token_ids=(1, 2, 3), logprobs=(-1.0, -2.0))
    assert "inf nats off" in canary_problem(canary, found, dtype="float32", tolerance=1e3)
