"""The disk of the run is full: the run says which file, what was completed stays, and with room it goes on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.faults.disk import SmallDisk
from tests.integration.faults.records import (
    completed,
    outcome,
    require_each_in_the_book_once,
    require_nothing_lost_or_twice,
)
from tests.integration.faults.runs import Site

KIB = 8192


@pytest.fixture
def disk(site: Site, tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk on which the site's run lies."""
    disk = SmallDisk(tmp_path / "disk", kib=KIB, work=tmp_path)
    site.run, site.seen = tmp_path / "disk" / "run", disk.path / "run"
    yield disk
    disk.close()


@pytest.mark.parametrize(
    ("point", "leave", "what"),
    [
        ("generate-1", 0, "trajectories.jsonl could not be written: No space left on device"),
        ("generate-1", 8, "trajectories.jsonl could not be written: No space left on device"),
        ("before-training-2", 0, "No space left on device"),
        ("trained-4", 0, "No space left on device"),
        ("half-saved-4", 0, "No space left on device"),
        ("saved-4", 0, "state.json could not be written: No space left on device"),
    ],
)
def test_a_disk_that_fills_up_at_this_point_costs_nothing_that_was_completed(
    point: str, leave: int, what: str, site: Site, disk: SmallDisk, undisturbed: Any
) -> None:
    site.order(point)
    site.start("script", wrapper=disk.enter)
    site.until_reached(point)
    disk.fill(leave=leave)
    site.lift(point)
    assert what in site.fail()
    before = completed(site.seen)
    assert before == (site.seen / "stages/1-rl/trajectories.jsonl").read_bytes()
    site.resume(wrapper=disk.enter)
    assert "No space left on device" in site.fail()
    disk.make_room()
    site.resume(wrapper=disk.enter)
    site.finish()
    require_nothing_lost_or_twice(site.seen, before=before)
    require_each_in_the_book_once(site.seen)
    assert outcome(site.seen) == undisturbed


def test_a_run_that_finds_no_room_to_begin_can_be_begun_again(site: Site, disk: SmallDisk, undisturbed: Any) -> None:
    disk.fill()
    site.start("script", wrapper=disk.enter)
    errors = site.end(1)
    assert "No space left on device" in errors
    disk.make_room()
    site.start("script", wrapper=disk.enter)
    site.finish()
    assert outcome(site.seen) == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_checkpoint_that_does_not_fit_is_told_of_and_the_one_before_serves(site: Site, disk: SmallDisk) -> None:
    site.order("before-saving-2")
    site.start("torch", wrapper=disk.enter)
    site.until_reached("before-saving-2")
    disk.fill(leave=64)
    site.lift("before-saving-2")
    errors = site.fail()
    assert "checkpoints/1-rl-2 could not be written" in errors
    assert "No space left on device" in errors
    assert [each.name for each in (site.seen / "checkpoints").iterdir()] == ["1-rl-1"]
    before = completed(site.seen)
    disk.make_room()
    site.resume(wrapper=disk.enter)
    site.finish()
    require_nothing_lost_or_twice(site.seen, before=before)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_model_that_does_not_fit_is_told_of_and_made_when_it_does(site: Site, disk: SmallDisk) -> None:
    disk.fill(leave=40)
    site.start("torch", wrapper=disk.enter)
    errors = site.fail()
    assert "No space left on device" in errors
    disk.make_room()
    site.resume(wrapper=disk.enter)
    site.finish()
    require_nothing_lost_or_twice(site.seen, before=b"")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_weights_for_which_shared_memory_has_no_room_end_the_run_which_goes_on_with_room(
    site: Site, tmp_path: Path
) -> None:
    memory = SmallDisk(Path("/dev/shm"), kib=16384, work=tmp_path)
    try:
        site.order("before-training-1")
        training = "backends.training={use='faults/torch', processes=2}"
        site.start("torch", "algorithm.use='grpo'", training, wrapper=memory.enter)
        site.until_reached("before-training-1")
        before = completed(site.run)
        memory.fill(leave=32)
        site.lift("before-training-1")
        errors = site.fail()
        assert "by which the training processes speak with the run, could not be written" in errors
        assert "KiB are free there; make room" in errors
        memory.make_room()
        site.resume(wrapper=memory.enter)
        site.finish()
        require_nothing_lost_or_twice(site.run, before=before)
    finally:
        memory.close()
