"""Processes for episodes are killed in the middle of a run: only what they had not finished is run again."""

import signal
from typing import Any

import psutil
import pytest
from tests.integration.faults.records import (
    completed,
    outcome,
    require_each_in_the_book_once,
    require_nothing_lost_or_twice,
)
from tests.integration.faults.runs import Site

WORKERS = "backends.execution={{use='local', workers=2, capacity=12, restarts={}}}"


def workers(site: Site) -> list[psutil.Process]:
    return site.children("tumbler_backends.execution.local.worker")


def test_a_worker_killed_costs_only_its_unfinished_episodes(site: Site, undisturbed: Any) -> None:
    site.order("generate-2")
    site.start("script", WORKERS.format(1))
    site.until_reached("generate-2")
    victim = workers(site)[0]
    victim.send_signal(signal.SIGKILL)
    site.wait_until(lambda: len(workers(site)) == 2 and victim not in workers(site), "the worker was replaced")
    before = completed(site.run)
    site.lift("generate-2")
    said = site.finish()
    assert "was killed by signal 9" in said
    assert "its unfinished rollouts run again: 1-rl/2/" in said
    require_nothing_lost_or_twice(site.run, before=before)
    require_each_in_the_book_once(site.run)
    assert outcome(site.run) == undisturbed


def test_when_all_workers_are_gone_the_run_says_so_and_goes_on_when_it_is_resumed(site: Site, undisturbed: Any) -> None:
    site.order("generate-3")
    site.start("script", WORKERS.format(0))
    site.until_reached("generate-3")
    for victim in workers(site):
        victim.send_signal(signal.SIGKILL)
    errors = site.fail()
    assert "every worker for episodes has died" in errors
    assert "unfinished then: 1-rl/3/" in errors
    before = completed(site.run)
    site.lift("generate-3")
    site.resume()
    site.finish()
    require_nothing_lost_or_twice(site.run, before=before)
    require_each_in_the_book_once(site.run)
    assert outcome(site.run) == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_that_stands_still_ends_the_run_in_bounded_time(site: Site, undisturbed: Any) -> None:
    site.order("generate-2")
    site.start("script", WORKERS.format(1), "rl.stall_seconds=1")
    site.until_reached("generate-2")
    still = workers(site)[0]
    still.send_signal(signal.SIGSTOP)
    site.lift("generate-2")
    errors = site.fail()
    assert "the run made no progress for 2 s" in errors
    assert not still.is_running()
    before = completed(site.run)
    site.resume()
    site.finish()
    require_nothing_lost_or_twice(site.run, before=before)
    require_each_in_the_book_once(site.run)
    assert outcome(site.run) == undisturbed
