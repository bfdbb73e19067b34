"""The process that trains is killed: the run goes on, and loses and uses twice nothing that was completed."""

import re
import signal
from typing import Any

import pytest
from tests.integration.faults.records import (
    completed,
    outcome,
    require_each_in_the_book_once,
    require_nothing_lost_or_twice,
    steps,
)
from tests.integration.faults.runs import Site

POINTS = ["generate-2", "before-training-3", "trained-4", "half-saved-4", "saved-4", "update-3"]


@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at_this_point_ends_as_one_that_was_not(point: str, site: Site, undisturbed: Any) -> None:
    site.order(point)
    site.start("script")
    site.until_reached(point)
    site.kill()
    site.lift(point)
    before = completed(site.run)
    assert before
    site.resume()
    site.finish()
    require_nothing_lost_or_twice(site.run, before=before)
    require_each_in_the_book_once(site.run)
    assert outcome(site.run) == undisturbed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_stop_names_the_way_on(number: int, site: Site, undisturbed: Any) -> None:
    site.order("generate-2")
    site.start("script")
    site.until_reached("generate-2")
    site.process.send_signal(number)
    errors = site.end(130)
    assert f"stopped by {signal.Signals(number).name}; go on with: tumbler run --resume {site.run}" in errors
    before = completed(site.run)
    site.lift("generate-2")
    site.resume()
    site.finish()
    require_nothing_lost_or_twice(site.run, before=before)
    require_each_in_the_book_once(site.run)
    assert outcome(site.run) == undisturbed


@pytest.mark.parametrize("order", ["plan", "arrival"])
def test_rollouts_that_ran_ahead_are_neither_lost_nor_used_twice(order: str, site: Site) -> None:
    point, *later = ["generate-0", "trained-2", "half-saved-4", "before-training-5"]
    site.order(point)
    site.start("script", "rl.max_staleness=2", f"rl.order='{order}'", "env={use='faults/words', pace=0.02}")
    before = b""
    for following in [*later, ""]:
        site.until_reached(point)
        site.kill()
        site.lift(point)
        assert completed(site.run).startswith(before)
        before = completed(site.run)
        if following:
            site.order(following)
        point = following
        site.resume()
    site.finish()
    require_nothing_lost_or_twice(site.run, before=before)
    require_each_in_the_book_once(site.run)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", ["in-step-2", "half-saved-2"])
def test_a_real_trainer_killed_in_an_optimizer_step_or_a_checkpoint_goes_on(point: str, site: Site) -> None:
    site.order(point)
    site.start("torch")
    site.until_reached(point)
    site.kill()
    site.lift(point)
    before = completed(site.run)
    site.resume()
    site.finish()
    require_nothing_lost_or_twice(site.run, before=before)
    assert [line["step"] for line in steps(site.run)][-4:] == ([0, 1, 2, 3] if point == "in-step-2" else [1, 1, 2, 3])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_of_two_training_processes_killed_ends_the_run_with_its_name_and_the_way_on(site: Site) -> None:
    site.order("before-training-2")
    site.start("torch", "algorithm.use='grpo'", "backends.training={use='faults/torch', processes=2}")
    site.until_reached("before-training-2")
    workers = site.children("tumbler_backends.training.torch.workers.worker")
    assert len(workers) == 2
    workers[1].send_signal(signal.SIGKILL)
    before = completed(site.run)
    site.lift("before-training-2")
    errors = site.fail()
    assert re.search(r"worker process [01] of 2 was killed by signal 9 in step", errors)
    assert "The last of its log:" in errors
    assert not any(each.is_running() for each in workers)
    site.resume()
    site.finish()
    require_nothing_lost_or_twice(site.run, before=before)
