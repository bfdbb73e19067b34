"""Whole runs with worker processes, which end as those without."""

from collections.abc import Callable

import pytest
from tests.backends.execution.recipes import Rolled

WORKERS = "runs.{}.backends.execution='workers'"


def test_a_run_of_fakes_is_the_same_in_worker_processes(roll: Callable[..., Rolled]) -> None:
    here, there = roll("small", "here"), roll("small", "there", WORKERS.format("small"))
    assert len(here.trajectories) > 20
    assert (here.results, here.decided()) == (there.results, there.decided())


def test_rollouts_that_fail_are_rolled_again_there_too(roll: Callable[..., Rolled]) -> None:
    failing = "runs.small.backends.inference={use='fake/scripted', fail_one_in=7}"
    there = roll("small", "there", failing, "runs.small.rl.max_infra_failures=1", WORKERS.format("small"))
    failed = [each for each in there.trajectories.values() if each.status == "infra_failed"]
    assert failed
    assert all("out of memory" in each.status_reason for each in failed)
    assert any(each.header.attempt for each in there.trajectories.values())


@pytest.mark.slow
def test_a_run_of_a_real_model_is_the_same_in_worker_processes(roll: Callable[..., Rolled]) -> None:
    here, there = roll("real", "here"), roll("real", "there", WORKERS.format("real"))
    assert len(here.trajectories) >= 24
    assert here.decided() == there.decided()
    assert here.logprobs() == pytest.approx(there.logprobs(), abs=1e-4)
