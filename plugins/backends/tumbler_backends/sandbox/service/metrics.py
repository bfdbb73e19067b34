"""What the service counts, for Prometheus; names no tenant."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["ServiceMetrics"]

_START_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class ServiceMetrics:
    """The counts of one service."""

    def __init__(self, *, living: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Ask `living` and `waiting` whenever the numbers are wanted."""
        self._registry = CollectorRegistry()
        Gauge("tumbler_sandboxes", "Living sandboxes.", registry=self._registry).set_function(living)
        Gauge("tumbler_creation_queue", "Creations that wait.", registry=self._registry).set_function(waiting)
        self._starts = Histogram(
            "tumbler_sandbox_start_seconds",
            "Seconds until a sandbox is ready, without the queue.",
            buckets=_START_S,
            registry=self._registry,
        )
        self.commands = Counter("tumbler_commands", "Commands that were run.", ["kind"], registry=self._registry)
        self._failures = Counter("tumbler_failures", "Requests that failed.", ["error"], registry=self._registry)
        self._infra = Counter("tumbler_infra_failures", "Failures of the infrastructure.", registry=self._registry)

    @contextmanager
    def start(self) -> Iterator[None]:
        """Measure one start; one that fails is not counted as a start."""
        began = time.perf_counter()
        yield
        self._starts.observe(time.perf_counter() - began)

    def failed(self, error: str, *, infra: bool) -> None:
        """Count a failed request."""
        self._failures.labels(error=error).inc()
        if infra:
            self._infra.inc()

    def text(self) -> bytes:
        """Return the counts as Prometheus reads them."""
        return generate_latest(self._registry)
