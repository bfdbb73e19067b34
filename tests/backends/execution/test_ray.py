"""A run on a Ray cluster of two nodes: what is placed there, what comes back, and what dies."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table
from tests.backends.execution.recipes import Diary, EngineRecipe, Recipe, Rolled, request, scripted

from tumbler.contracts.execution import DistributedExecution, Engines
from tumbler.contracts.inference import GenerateRequest, InferenceBackend, Sampling, WeightUpdate
from tumbler.contracts.training import TrainingBackend
from tumbler.errors import ContextPlanError, ContractError, InferenceError, RunError, RunFolderError
from tumbler_backends.execution.ray.backend import RayExecution
from tumbler_backends.execution.ray.settings import RaySettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # Ray leaves sockets and files open for the interpreter to close.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

_STORE = 80 * 2**20
_TRIES = 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A node with room for all, and one with room for a worker alone."""
    cluster = _cluster()
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def connected(cluster: Cluster) -> Cluster:
    """The cluster, with this process connected to it and its second node there."""
    if not ray.is_initialized():
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    if len(cluster.list_all_nodes()) < 2:
        cluster.add_node(num_cpus=1, object_store_memory=_STORE)
        cluster.wait_for_nodes()
    return cluster


def _cluster() -> Cluster:
    for attempt in range(_TRIES):
        cluster = Cluster()
        try:
            # A machine at work may be too slow for the bounds that Ray has for its own processes, the first time.
            cluster.add_node(num_cpus=8, object_store_memory=_STORE, include_dashboard=False)
            cluster.add_node(num_cpus=1, object_store_memory=_STORE)
        except Exception:
            cluster.shutdown()
            if attempt + 1 == _TRIES:
                raise
        else:
            return cluster
    raise AssertionError


def settings(**other: Any) -> RaySettings:
    # The second node has one processor, so engine and trainer find room on the first alone.
    return RaySettings(**{"address": "auto", "strategy": "SPREAD", "engine_cpus": 2, "trainer_cpus": 2, **other})


@asynccontextmanager
async def working(
    diary: Diary, policy: InferenceBackend | None = None, **other: Any
) -> AsyncIterator[tuple[RayExecution, Any]]:
    """Yield the backend with workers, and the engine that they ask."""
    backend = RayExecution(settings(**other))
    engine: Any = None
    try:
        engine = await backend.place(EngineRecipe(diary=diary))
        await engine.start(diary.path.parent)
        await backend.start_workers(Recipe(diary=diary), Engines(policy=engine))
        yield backend, engine
    finally:
        if engine is not None:
            await engine.close()
        await backend.close()


def asked(seed: int, session: str = "one") -> GenerateRequest:
    return GenerateRequest(token_ids=(97, 98), sampling=Sampling(), seed=seed, session=session)


def leftovers() -> list[str]:
    """Return what of ours is still in the cluster."""
    groups = [each for each in placement_group_table().values() if each["state"] != "REMOVED"]
    actors = [each for each in ray._private.state.actors().values() if each["State"] != "DEAD"]
    return [str(each) for each in (*groups, *actors)]


def _kill(cluster: Cluster, node: Any) -> None:
    """End a node at once, with all that runs on it."""
    (raylet,) = node.all_processes["raylet"]
    for process in psutil.Process(raylet.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    cluster.remove_node(node, allow_graceful=False)


async def test_rollouts_cross_the_cluster_and_their_engine_calls_too(connected: Cluster, diary: Diary) -> None:
    async with working(diary) as (backend, engine):
        assert isinstance(backend, DistributedExecution)
        assert isinstance(engine, InferenceBackend)
        names = [f"rollout-{index}" for index in range(24)]
        found = await asyncio.gather(*(backend.submit(request(name, "shuffled")) for name in names))
        assert [each.id for each in found] == names
        assert len({pid for _, pid in diary.lines("finished")}) == 2
        await engine.update_weights(WeightUpdate(version=5))
        told = (await backend.submit(request("asked", "asking"))).details
        assert (told["reply"], told["version"]) == ("DO TASK 0.", 5)
        assert [name for name, _ in diary.lines("released")] == ["asked"]
        assert engine.tokenizer.fingerprint == "characters"
        async with asyncio.timeout(60):
            while engine.metrics().get("requests") != 1:
                await asyncio.sleep(0.1)
        with pytest.raises(ContextPlanError, match="scripted") as caught:
            await backend.submit(request("two", "wrong"))
        assert caught.value.check == "size"
        with pytest.raises(RuntimeError, match="Foreign: onetwo"):
            await backend.submit(request("three", "foreign"))
        with pytest.raises(InferenceError, match=r"ForeignInference: out of luck"):
            await engine.generate(asked(seed=14))
        call = asyncio.ensure_future(backend.submit(request("endless", "asking", seed=13)))
        await diary.until(lambda each: bool(each.lines("asked")))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert [name for name, _ in diary.lines("unasked")] == ["endless"]
        assert [name for name, _ in diary.lines("cleaned")] == ["endless"]
        waiting = asyncio.ensure_future(backend.submit(request("waiting", "waiting")))
        await diary.until(lambda each: ["waiting"] in [line[:1] for line in each.lines("begun")])
    assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], BaseException)
    assert [name for name, _ in diary.lines("cleaned")] == ["endless", "waiting"]
    assert len(diary.lines("left")) == 2
    assert ray.is_initialized()
    assert leftovers() == []


async def test_a_replica_that_dies_comes_back_with_the_weights_of_then(connected: Cluster, diary: Diary) -> None:
    async with working(diary) as (backend, engine):
        await engine.update_weights(WeightUpdate(version=4))
        lost = asyncio.ensure_future(engine.generate(asked(seed=13)))
        await diary.until(lambda each: bool(each.lines("asked")))
        os.kill(int(diary.lines("engine")[0][0]), signal.SIGKILL)
        with pytest.raises(InferenceError, match="gone"):
            await lost
        assert lost.exception().infra  # type: ignore[union-attr]  # it is the error above
        assert (await engine.generate(asked(seed=1))).policy_version == 4
        assert len({pid for (pid,) in diary.lines("engine")}) == 2
        await engine.update_weights(WeightUpdate(version=6))
        told = (await backend.submit(request("asked", "asking"))).details
        assert told["version"] == 6


async def test_a_replica_that_is_back_gets_new_sessions_again(connected: Cluster, diary: Diary) -> None:
    async with working(diary, engines=2) as (_, engine):
        lost = asyncio.ensure_future(engine.generate(asked(seed=13)))
        await diary.until(lambda each: bool(each.lines("asked")))
        ((_, dead),) = diary.lines("asked")
        os.kill(int(dead), signal.SIGKILL)
        with pytest.raises(InferenceError, match="gone"):
            await lost
        calls: list[asyncio.Future[Any]] = []
        async with asyncio.timeout(120):
            while len({pid for _, pid in diary.lines("asked")} - {dead}) < 2:
                calls.append(asyncio.ensure_future(engine.generate(asked(seed=13, session=f"{len(calls)}"))))
                await asyncio.sleep(0.2)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_the_trainer_trains_there_and_its_weights_go_through_the_store(connected: Cluster, diary: Diary) -> None:
    from tumbler.contracts.batch import CreditedTrajectory
    from tumbler.testing import sample_trajectory
    from tumbler_algorithms.grpo.algorithm import GRPO
    from tumbler_algorithms.grpo.settings import GRPOSettings

    backend = RayExecution(settings(engines=2))
    engine: Any = await backend.place(EngineRecipe(diary=diary))
    trainer: Any = await backend.place(EngineRecipe(diary=diary, role="training"))
    try:
        assert isinstance(trainer, TrainingBackend)
        await asyncio.gather(engine.start(diary.path.parent), trainer.start(diary.path.parent, seed=7))
        trainer.begin("rl", optimizer_steps=3)
        batch = [CreditedTrajectory(trajectory=sample_trajectory(), credits=(0.0, 0.0, 0.0))]
        algorithm = GRPO(GRPOSettings())
        report = await trainer.step(batch, algorithm)
        assert report.metrics == {algorithm.update_rule.old_policy: 1.0}
        assert trainer.version == 1
        await engine.update_weights(trainer.weights())
        assert [line[0] for line in diary.lines("weights")] == ["1", "1"]
        assert [line[2:] for line in diary.lines("weights")] == [["one=6", "tied=6"]] * 2
        assert {name: tensor.shape for name, tensor in trainer.weights().tensors()} == {"one": (3, 2), "tied": (3, 2)}
        await trainer.save(diary.path.parent / "checkpoint")
        with pytest.raises(RunFolderError, match="holds nothing"):
            await trainer.load(diary.path.parent / "checkpoint")
        with pytest.raises(RunError, match="share its file system"):
            await trainer.load(diary.path.parent / "elsewhere")
        with pytest.raises(RunError, match=r"(?s)trainer is gone.*tumbler run --resume here"):
            await trainer.step([], algorithm)
    finally:
        await trainer.close()
        await engine.close()
        await backend.close()
    assert leftovers() == []


async def test_a_node_that_dies_costs_only_its_unfinished_episodes(connected: Cluster, diary: Diary) -> None:
    second = next(node for node in connected.list_all_nodes() if node is not connected.head_node)
    async with working(diary, episodes=4) as (backend, _):
        calls = [asyncio.ensure_future(backend.submit(request(f"{i}", "slow", seed=i))) for i in range(40)]
        await diary.until(lambda each: len(each.lines("finished")) >= 10)
        _kill(connected, second)
        trajectories = await asyncio.gather(*calls)
        assert [each.id for each in trajectories] == [f"{index}" for index in range(40)]
    finished = [(name, pid) for name, pid in diary.lines("finished")]
    begun = [(name, pid) for name, pid in diary.lines("begun")]
    assert sorted(name for name, _ in finished) == sorted({name for name, _ in finished})
    again = [each for each in begun if each not in finished]
    assert len({pid for _, pid in again}) == 1
    names = [name for name, _ in begun]
    assert {name for name in names if names.count(name) > 1} == {name for name, _ in again}


async def test_errors_of_a_recipe_and_a_lack_of_room_end_the_start(connected: Cluster, diary: Diary) -> None:
    backend = RayExecution(settings(workers=1, start_timeout=3, worker_cpus=500))
    with pytest.raises(RunError, match=r"no room.*1 times \{'CPU': 500.0\}.*it has \d+ CPU"):
        await backend.start_workers(Recipe(diary=diary), Engines(policy=scripted()))
    await backend.close()
    backend = RayExecution(settings(workers=1))
    engine: Any = await backend.place(EngineRecipe(diary=diary, refuses="another version"))
    with pytest.raises(ContractError, match="another version"):
        await engine.start(diary.path.parent)
    await engine.close()
    await backend.close()
    assert leftovers() == []


def test_a_run_of_fakes_is_the_same_on_two_nodes(connected: Cluster, roll: Callable[..., Rolled]) -> None:
    placed = "{use='ray', address='auto', strategy='SPREAD', engine_cpus=2, trainer_cpus=2}"
    here, there = roll("small", "here"), roll("small", "there", f"runs.small.backends.execution={placed}")
    assert len(here.trajectories) > 20
    assert (here.results, here.decided()) == (there.results, there.decided())


def test_a_run_of_a_real_model_is_the_same_on_two_nodes(connected: Cluster, roll: Callable[..., Rolled]) -> None:
    placed = "{use='ray', address='auto', strategy='SPREAD', engine_cpus=2, trainer_cpus=2}"
    here, there = roll("real", "here"), roll("real", "there", f"runs.real.backends.execution={placed}")
    assert len(here.trajectories) >= 24
    assert here.decided() == there.decided()
    assert here.logprobs() == pytest.approx(there.logprobs(), abs=1e-4)


async def test_a_cluster_that_is_joined_stays_and_sigterm_still_cancels(cluster: Cluster, diary: Diary) -> None:
    ray.shutdown()
    handler = signal.getsignal(signal.SIGTERM)
    backend = RayExecution(settings(address=cluster.address, workers=1))
    await backend.start_workers(Recipe(diary=diary), Engines(policy=object()))  # type: ignore[arg-type]  # unused
    assert signal.getsignal(signal.SIGTERM) is handler
    assert (await backend.submit(request("one"))).id == "one"
    await backend.close()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not ray.is_initialized()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    assert leftovers() == []


ALONE = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.backends.execution.recipes import Diary, Recipe, request
from tumbler.contracts.execution import Engines
from tumbler_backends.execution.ray.backend import RayExecution
from tumbler_backends.execution.ray.settings import RaySettings

async def main():
    diary = Diary(path=Path(sys.argv[1]))
    backend = RayExecution(RaySettings(workers=1, object_store_memory=80 * 2**20))
    await backend.start_workers(Recipe(diary=diary), Engines(policy=None))
    await backend.submit(request("one"))
    try:
        await backend.submit(request("wrong", "wrong"))
    except Exception:
        pass
    import ray
    diary.note("session", ray._private.worker._global_node.get_session_dir_path())
    await backend.close()

asyncio.run(main())
"""


def test_a_cluster_of_its_own_says_nothing_and_ends_with_the_run(diary: Diary, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", ALONE, str(diary.path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    session = diary.lines("session")[0][0]
    processes = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [each for each in processes if session.encode() in each]
    assert len(diary.lines("left")) == 1
