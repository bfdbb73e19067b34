"""The cluster of a run: joined or started, with room reserved in it; knows no actor."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray
from ray._private import worker
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from tumbler.errors import RunError
from tumbler_backends.execution.ray.settings import RaySettings

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.util.placement_group import PlacementGroup

__all__ = ["Bundles", "Cluster"]

_PAUSE_S = 1.0
_MANY_CALLS = 10_000
"""Calls of one actor at a time; what is too much for it, its own limits say."""


class Bundles:
    """Room for actors of one kind, each in a bundle of its own."""

    def __init__(self, group: "PlacementGroup", *, cpus: float, gpus: float) -> None:
        """Keep the group and what each actor asks for."""
        self._group = group
        self._cpus = cpus
        self._gpus = gpus

    def actor(self, index: int, kind: type, *arguments: object, restarts: int = 0) -> "ActorHandle[Any]":
        """Make an actor of that class in the bundle; Ray starts it when the bundle is placed."""
        made: Any = ray.remote(kind)
        placed: ActorHandle[Any] = made.options(
            num_cpus=self._cpus,
            num_gpus=self._gpus,
            max_restarts=restarts,
            max_task_retries=0,
            max_concurrency=_MANY_CALLS,
            scheduling_strategy=PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=index),
        ).remote(*arguments)
        return placed

    def free(self) -> None:
        """Give the room back, and end what is left in it."""
        remove_placement_group(self._group)


class Cluster:
    """A connection to a cluster."""

    def __init__(self, settings: RaySettings) -> None:
        """Connect as the settings say; a connection that this process has is used and left as it is."""
        self._settings = settings
        self._ours = not ray.is_initialized()
        self._bundles: list[Bundles] = []
        if self._ours:
            with _sigterm_kept():
                _connect(settings)
            _print_cluster_messages(settings.log_to_driver)

    async def reserve(self, what: str, count: int, *, cpus: float, gpus: float) -> Bundles:
        """Reserve room for `count` actors; raise `RunError` if the cluster has not got it in time."""
        settings = self._settings
        # A bundle must ask for something; this much of a processor is nothing.
        needs = {name: each for name, each in (("CPU", cpus), ("GPU", gpus)) if each} or {"CPU": 0.001}
        group = placement_group([needs] * count, strategy=settings.strategy)
        bundles = Bundles(group, cpus=needs.get("CPU", 0.0), gpus=gpus)
        self._bundles.append(bundles)
        deadline = time.monotonic() + settings.start_timeout
        while time.monotonic() < deadline:
            # In a thread, and a little at a time, so that a cancelled run leaves no thread that waits on.
            if await asyncio.to_thread(group.wait, _PAUSE_S):
                return bundles
        raise RunError(
            f"the cluster had no room within {settings.start_timeout:g} s for {what}: {count} times {needs}, "
            f"placed {settings.strategy}; it has {_amounts('cluster_resources')}, of which "
            f"{_amounts('available_resources')} are free"
        )

    def close(self) -> None:
        """Give back what was reserved; end the cluster if it was started here, and the connection if it is ours."""
        while self._bundles and ray.is_initialized():
            self._bundles.pop().free()
        if self._ours:
            with _sigterm_kept():
                ray.shutdown()
            _print_cluster_messages(True)


def _connect(settings: RaySettings) -> None:
    options: dict[str, Any] = {"address": settings.address}
    if not settings.address:
        # Ray reports the use of clusters to its makers, and prints that it does.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options = {
            "address": "local",
            "num_cpus": _cpus(settings),
            "object_store_memory": settings.object_store_memory or None,
            "include_dashboard": False,
        }
    try:
        ray.init(
            **options,
            runtime_env=settings.runtime_env or None,
            log_to_driver=settings.log_to_driver,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray raises a bare Exception where a process of a node does not come up
        ray.shutdown()
        remedy = (
            f"is a cluster running at {settings.address!r}, of Ray {ray.__version__} and this version of Python?"
            if settings.address
            else 'if this machine is too busy for it, start one with `ray start --head` and set address = "auto"'
        )
        raise RunError(f"no Ray cluster: {type(error).__name__}: {error}; {remedy}") from error


def _print_cluster_messages(wanted: bool) -> None:
    """Say whether Ray prints what its processes tell of dead nodes and actors, which `log_to_driver` does not reach."""
    worker._worker_logs_enabled = wanted


def _cpus(settings: RaySettings) -> int:
    """Return the processors that a cluster of our own is told of: it is for this run alone, so all must fit."""
    engines = 2 * settings.engines * settings.engine_cpus
    asked = settings.workers * settings.worker_cpus + engines + settings.trainer_cpus
    return max(os.cpu_count() or 1, int(asked) + 1)


def _amounts(function: str) -> str:
    resources: dict[str, float] = getattr(ray, function)()  # Ray gives these functions no types
    shown = {name: amount for name, amount in resources.items() if name in ("CPU", "GPU")}
    return ", ".join(f"{amount:g} {name}" for name, amount in sorted(shown.items())) or "nothing"


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Keep this process's answer to SIGTERM, which Ray replaces by an exit without any clean-up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
