"""An engine that does not answer: what waits for it is given up in bounded time, and rolled again or told of."""

import json
from typing import Any

import pytest
from tests.integration.faults.records import (
    STAGE,
    completed,
    outcome,
    require_each_in_the_book_once,
    require_nothing_lost_or_twice,
)
from tests.integration.faults.runs import Site

STALL = "rl.stall_seconds=1"


def test_requests_that_hang_for_a_while_are_rolled_again(site: Site, undisturbed: Any) -> None:
    site.order("generate-2")
    site.start("script", STALL)
    stall = site.run / "stages" / STAGE / "stall-1.json"
    site.wait_until(stall.exists, "the stall was written down")
    before = completed(site.run)
    site.lift("generate-2")
    said = site.finish()
    assert "rollouts are given up and rolled again" in said
    assert json.loads(stall.read_text())["in_flight"]
    require_nothing_lost_or_twice(site.run, before=before)
    require_each_in_the_book_once(site.run)
    again = {name for name in outcome(site.run)[2] if "~" in name}
    assert again, "an attempt that was given up is not the one that answered"
    assert outcome(site.run)[1]["version"] == undisturbed[1]["version"]


@pytest.mark.parametrize("point", ["generate-2", "update-2"])
def test_an_engine_that_never_answers_ends_the_run_which_goes_on_with_one_that_does(
    point: str, site: Site, undisturbed: Any
) -> None:
    site.order(point)
    site.start("script", STALL)
    errors = site.fail()
    assert "the run made no progress for 2 s" in errors
    assert str(site.run / "stages" / STAGE / "stall-2.json") in errors
    before = completed(site.run)
    site.lift(point)
    site.resume()
    site.finish()
    require_nothing_lost_or_twice(site.run, before=before)
    require_each_in_the_book_once(site.run)
    assert outcome(site.run) == undisturbed


def test_an_engine_that_never_takes_its_first_weights_ends_the_run(site: Site) -> None:
    site.order("update-0")
    site.start("script", STALL)
    assert "the run made no progress for 2 s" in site.fail()
    site.lift("update-0")
    site.resume()
    site.finish()
    require_nothing_lost_or_twice(site.run, before=b"")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_engine_whose_threads_hang_cannot_keep_the_process_from_ending(site: Site, undisturbed: Any) -> None:
    site.order("block-2")
    site.start("script", STALL)
    errors = site.fail()
    assert "the run made no progress for 2 s" in errors
    assert "What hangs did not end within 90 s either" in errors
    before = completed(site.run)
    site.lift("block-2")
    site.resume()
    site.finish()
    require_nothing_lost_or_twice(site.run, before=before)
    require_each_in_the_book_once(site.run)
    assert outcome(site.run) == undisturbed
