"""A run on a Ray cluster of two nodes: a replica of its engine is killed, then a node with a worker."""

import contextlib
import json
import signal
from collections.abc import Iterator

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from tests.integration.faults.records import (
    STAGE,
    completed,
    require_each_in_the_book_once,
    require_nothing_lost_or_twice,
)
from tests.integration.faults.runs import Site

from tumbler.run.journal import StageJournal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # Ray leaves sockets and files open for the interpreter to close.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

_STORE = 80 * 2**20
_TRIES = 3
PLACED = (
    "backends.execution={{use='ray', address='{address}', strategy='SPREAD', engines=2, engine_cpus=2, trainer_cpus=2, "
    "runtime_env={{env_vars={{TUMBLER_FAULTS='{orders}'}}}}}}"
)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A node with room for all, and one with room for a worker alone."""
    cluster = _cluster()
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


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


def actors(node: object, name: str) -> list[psutil.Process]:
    """Return the actors of a class that run on the node."""
    (raylet,) = node.all_processes["raylet"]  # type: ignore[attr-defined]  # Ray's own class has no types
    found = []
    for each in psutil.Process(raylet.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.cmdline()[0].startswith(f"ray::{name}"):
                found.append(each)
    return found


def test_a_run_outlives_a_replica_and_a_node(cluster: Cluster, site: Site) -> None:
    first, second = cluster.head_node, next(iter(cluster.worker_nodes))
    site.order("generate-1")
    site.order("generate-3")
    site.start("script", PLACED.format(address=cluster.address, orders=site.orders))
    site.until_reached("generate-1")
    replicas = actors(first, "InferenceActor")
    assert len(replicas) == 2
    replicas[0].send_signal(signal.SIGKILL)
    site.wait_until(lambda: b'"infra_failed"' in completed(site.run), "what waited for the replica failed")
    site.lift("generate-1")
    site.until_reached("generate-3")
    (worker,) = actors(second, "RolloutActor")
    for process in (worker, *psutil.Process(second.all_processes["raylet"][0].process.pid).children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    cluster.remove_node(second, allow_graceful=False)
    before = completed(site.run)
    site.lift("generate-3")
    site.finish()
    require_nothing_lost_or_twice(site.run, before=before)
    require_each_in_the_book_once(site.run)
    assert [len(step.trajectories) for step in StageJournal(site.run / "stages" / STAGE).used()] == [12] * 6
    failed = [json.loads(line) for line in before.splitlines() if b'"infra_failed"' in line]
    assert all("gone" in each["status_reason"] for each in failed)
