"""Episodes in worker processes: engines that stay behind, and deaths of workers and of their owner."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.backends.execution.recipes import Diary, Recipe, WaitingInference, request, scripted

from tumbler.contracts.execution import DistributedExecution, Engines
from tumbler.contracts.inference import InferenceBackend
from tumbler.errors import ContextPlanError, ContractError, InferenceError, RunError
from tumbler_backends.execution.local.backend import LocalExecution
from tumbler_backends.execution.local.settings import LocalSettings


@asynccontextmanager
async def working(
    diary: Diary, policy: InferenceBackend | None = None, teacher: InferenceBackend | None = None, **settings: int
) -> AsyncIterator[LocalExecution]:
    backend = LocalExecution(LocalSettings(**{"workers": 2, **settings}))
    try:
        await backend.start_workers(Recipe(diary=diary), Engines(policy=policy or scripted(), teacher=teacher))
        yield backend
    finally:
        await backend.close()


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_it_is_distributed_only_with_workers() -> None:
    assert not LocalExecution(LocalSettings()).distributed
    assert LocalExecution(LocalSettings(workers=1)).distributed
    assert isinstance(LocalExecution(LocalSettings()), DistributedExecution)


async def test_rollouts_come_back_each_to_its_caller_and_use_all_workers(diary: Diary) -> None:
    async with working(diary) as backend:
        names = [f"rollout-{index}" for index in range(24)]
        found = await asyncio.gather(*(backend.submit(request(name, "shuffled")) for name in names))
        assert [each.id for each in found] == names
        assert len({pid for _, pid in diary.lines("finished")}) == 2
        assert str(os.getpid()) not in {pid for _, pid in diary.lines("finished")}
        assert (await backend.health())["workers"] == 2
    assert len(diary.lines("left")) == 2
    assert not any(alive(pid) for (pid,) in diary.lines("opened"))


async def test_episodes_ask_the_engines_of_the_leading_process(diary: Diary) -> None:
    policy, teacher = scripted(version=3), scripted(version=9)
    async with working(diary, policy, teacher) as backend:
        told = (await backend.submit(request("one", "asking"))).details
        assert told == {"reply": "DO TASK 0.", "version": 3, "metrics": {"requests": 1.0}}
        assert (await backend.submit(request("two", "asking", source="teacher"))).details["version"] == 9
        assert (policy.released, teacher.released) == (["one"], ["two"])  # type: ignore[attr-defined]


async def test_a_cancelled_rollout_is_cleaned_up_and_its_request_leaves_the_engine(diary: Diary) -> None:
    engine = WaitingInference()
    async with working(diary, engine) as backend:
        call = asyncio.ensure_future(backend.submit(request("one", "asking")))
        await engine.begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert engine.cancelled == 1
        assert [name for name, _ in diary.lines("cleaned")] == ["one"]
        engine.open.set()
        assert (await backend.submit(request("two", "asking"))).id == "two"


async def test_closing_cancels_what_is_in_flight_and_waits_for_its_clean_up(diary: Diary) -> None:
    async with working(diary) as backend:
        calls = [asyncio.ensure_future(backend.submit(request(f"{index}", "waiting"))) for index in range(4)]
        await diary.until(lambda each: len(each.lines("begun")) == 4)
    assert len(diary.lines("cleaned")) == 4
    assert len(diary.lines("left")) == 2
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, BaseException) for each in results)


async def test_errors_arrive_as_what_they_were(diary: Diary) -> None:
    async with working(diary) as backend:
        with pytest.raises(ContextPlanError, match="scripted") as caught:
            await backend.submit(request("one", "wrong"))
        assert caught.value.check == "size"
        assert "recipes.py" in caught.value.__notes__[0]
        with pytest.raises(RuntimeError, match="Foreign: onetwo"):
            await backend.submit(request("two", "foreign"))
        assert (await backend.submit(request("three"))).id == "three"


async def test_an_error_of_the_engine_reaches_the_episode(diary: Diary) -> None:
    engine = scripted()
    engine._policy = None  # type: ignore[attr-defined]  # calling it fails
    async with working(diary, engine) as backend:
        with pytest.raises(InferenceError, match="scripted policy failed"):
            await backend.submit(request("one", "asking"))


async def test_a_recipe_that_cannot_be_opened_leaves_no_process(diary: Diary) -> None:
    backend = LocalExecution(LocalSettings(workers=2))
    with pytest.raises(ContractError, match="another version"):
        await backend.start_workers(Recipe(diary=diary, refuses="another version"), Engines(policy=scripted()))
    await backend.close()
    assert (await backend.health())["workers"] == 0
    with pytest.raises(RunError, match="closed"):
        await backend.submit(request("one"))


async def test_a_killed_worker_costs_only_its_unfinished_episodes(diary: Diary) -> None:
    async with working(diary, capacity=8) as backend:
        calls = [asyncio.ensure_future(backend.submit(request(f"{i}", "slow", seed=i))) for i in range(32)]
        await diary.until(lambda each: len(each.lines("finished")) >= 6)
        victim = diary.lines("opened")[0][0]
        os.kill(int(victim), signal.SIGKILL)
        trajectories = await asyncio.gather(*calls)
        assert [each.id for each in trajectories] == [f"{index}" for index in range(32)]
        assert await backend.health() == {"in_flight": 0.0, "workers": 2.0, "restarts": 1.0}
    finished = [name for name, _ in diary.lines("finished")]
    assert sorted(finished) == sorted({each.id for each in trajectories})
    twice = {name for name, pid in diary.lines("begun") if pid == victim} - {
        name for name, pid in diary.lines("finished") if pid == victim
    }
    begun = [name for name, _ in diary.lines("begun")]
    assert twice
    assert {name for name in begun if begun.count(name) > 1} == twice


async def test_an_episode_that_kills_every_worker_ends_the_run_with_its_last_words(diary: Diary) -> None:
    async with working(diary, workers=1, restarts=2) as backend:
        with pytest.raises(RunError, match=r"(?s)exited with 17.*poison is about to die.*unfinished then: poison"):
            await backend.submit(request("poison", "deadly"))
    assert len(diary.lines("begun")) == 3


async def test_a_worker_that_its_event_loop_keeps_busy_is_ended_in_the_end(
    diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tumbler_backends.execution.local.process.GRACE_S", 0.5)
    async with asyncio.timeout(20), working(diary, workers=1) as backend:
        call = asyncio.ensure_future(backend.submit(request("one", "busy")))
        await diary.until(lambda each: bool(each.lines("begun")))
    assert not alive(diary.lines("opened")[0][0])
    assert isinstance((await asyncio.gather(call, return_exceptions=True))[0], BaseException)


OWNER = """
import asyncio, sys
from pathlib import Path
from tests.backends.execution.recipes import Diary, Recipe, request, scripted
from tumbler.contracts.execution import Engines
from tumbler_backends.execution.local.backend import LocalExecution
from tumbler_backends.execution.local.settings import LocalSettings

async def main():
    backend = LocalExecution(LocalSettings(workers=2))
    await backend.start_workers(Recipe(diary=Diary(path=Path(sys.argv[1]))), Engines(policy=scripted()))
    await asyncio.gather(*(backend.submit(request(str(index), "waiting")) for index in range(4)))

asyncio.run(main())
"""


async def test_workers_clean_up_and_end_when_their_owner_is_killed(diary: Diary) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", OWNER, str(diary.path), env=environment)
    try:
        await diary.until(lambda each: len(each.lines("begun")) == 4)
        workers = [pid for (pid,) in diary.lines("opened")]
        assert all(alive(pid) for pid in workers)
    finally:
        owner.kill()
        await owner.wait()
    await diary.until(lambda each: len(each.lines("cleaned")) == 4 and len(each.lines("left")) == 2)
    await diary.until(lambda each: not any(alive(pid) for pid in workers))


async def test_no_log_is_left_behind(diary: Diary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    async with working(diary, workers=1):
        (folder,) = (tmp_path / "temporary").iterdir()
        assert folder.stat().st_mode & 0o077 == 0
    assert not list((tmp_path / "temporary").iterdir())
