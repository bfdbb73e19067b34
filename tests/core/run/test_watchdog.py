"""A stage without progress: what hangs is written down and given up, and a run that hangs for good ends."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tumbler.errors import RunError
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun
from tumbler.rollout.flights import Flights, GivenUp
from tumbler.run.command import start_run
from tumbler.run.journal import StageJournal
from tumbler.run.watchdog import Watchdog
from tumbler.testing.fakes import ScriptedInference
from tumbler.trajectory import Trajectory

Resolve = Callable[..., ResolvedRun]
RL = ("runs.small.stages=['rl']", "runs.small.rl.collapse_patience=0", "runs.small.rl.stall_seconds=0.5")


@pytest.fixture(autouse=True)
def _nothing_trains_yet(host: PluginHost) -> None:
    import tumbler_fake_run

    tumbler_fake_run.HUNG.clear()


async def forever() -> Trajectory:
    await asyncio.sleep(3600)
    raise AssertionError("it was not cancelled")


async def test_an_attempt_that_is_given_up_says_why_and_leaves_nothing() -> None:
    flights = Flights()
    waiting = asyncio.create_task(flights.follow("a", forever()))
    await asyncio.sleep(0.01)
    assert flights.give_up(3600, "too early") == 0
    assert flights.give_up(0, "no progress") == 1
    with pytest.raises(GivenUp, match="no progress"):
        await waiting
    assert len(flights) == 0


async def test_who_is_cancelled_while_its_attempt_is_given_up_stays_cancelled() -> None:
    flights = Flights()
    waiting = asyncio.create_task(flights.follow("a", forever()))
    await asyncio.sleep(0.01)
    flights.give_up(0, "no progress")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_rollouts_that_hang_are_written_down_and_rolled_again(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    start_run(resolve(*RL, "envs.two-step.hang_first=2"), tmp_path / "run", host)
    stage = tmp_path / "run/stages/1-rl"
    stall: Any = json.loads((stage / "stall-1.json").read_text())
    assert len(stall["in_flight"]) >= 2  # the others, too, where the machine itself stood still
    assert all(each["seconds"] >= 0.5 for each in stall["in_flight"])
    assert any("step" in line for task in stall["tasks"] for line in task["stack"])
    assert (stage / stall["threads"]).read_text()
    journal = StageJournal(stage)
    assert [len(step.trajectories) for step in journal.used()] == [6] * 5


def test_a_run_that_hangs_for_good_ends_with_an_error_that_names_the_file(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"no progress for 1 s.*stall-2\.json"):
        start_run(resolve(*RL, "runs.small.rl.attempts=9", "envs.two-step.hang_first=1000"), tmp_path / "run", host)


def test_a_training_step_that_takes_long_is_written_down_and_goes_on(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    slow = ("runs.small.rl.steps=1", "runs.small.backends.training={use='fake/counter', delay=1.5}")
    start_run(resolve(*RL, *slow), tmp_path / "run", host)
    stall = json.loads((tmp_path / "run/stages/1-rl/stall-1.json").read_text())
    assert stall["training"]
    assert stall["in_flight"] == []


class Broken(ScriptedInference):
    def metrics(self) -> Mapping[str, float]:
        raise OSError("no metrics (scripted)")


async def test_who_watches_an_engine_that_cannot_be_asked_for_its_progress_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"watch over the run's progress failed.*no metrics"):
        async with asyncio.timeout(20), Watchdog(Flights(), Broken(str), tmp_path, seconds=0.2):
            await asyncio.sleep(3600)


async def test_what_hangs_ends_also_where_it_cannot_be_written_down(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no progress for 0\.4 s.*could not be written down"):
        async with asyncio.timeout(20), Watchdog(Flights(), None, tmp_path / "none", seconds=0.2):
            await asyncio.sleep(3600)


async def test_who_is_cancelled_while_being_watched_stays_cancelled(tmp_path: Path) -> None:
    async def watched() -> None:
        async with Watchdog(Flights(), None, tmp_path, seconds=60):
            await asyncio.sleep(3600)

    task = asyncio.create_task(watched())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
