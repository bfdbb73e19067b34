"""Counts of one backend; knows no sandbox."""

import math
from typing import Final

from tumbler.contracts.sandbox_control import BackendMetrics

__all__ = ["Counts"]

_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, math.inf)


class Counts:
    """What happened since the backend was built."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.created = 0
        self.deleted = 0
        self.expired = 0
        self.start_failures = 0
        self.infra_failures = 0
        self.commands = 0
        self._starts = dict.fromkeys(_BOUNDS, 0)

    def started(self, seconds: float) -> None:
        """Count a sandbox that became ready within `seconds`."""
        self.created += 1
        for bound in _BOUNDS:
            self._starts[bound] += seconds <= bound

    def metrics(self, living: int) -> BackendMetrics:
        """Return the counts."""
        return BackendMetrics(
            sandboxes=living,
            created=self.created,
            deleted=self.deleted,
            expired=self.expired,
            start_failures=self.start_failures,
            infra_failures=self.infra_failures,
            commands=self.commands,
            start_seconds=dict(self._starts),
        )
