"""What happened since the backend was built."""

import math
from dataclasses import dataclass, field
from typing import Final

from tumbler.contracts.sandbox_control import BackendMetrics

__all__ = ["Counts"]

_BOUNDS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, math.inf)


@dataclass(kw_only=True)
class Counts:
    """Counts of one backend; those of living sandboxes are added when asked."""

    created: int = 0
    deleted: int = 0
    expired: int = 0
    start_failures: int = 0
    infra_failures: int = 0
    commands: int = 0
    """Of sandboxes that are gone."""
    starts: dict[float, int] = field(default_factory=lambda: dict.fromkeys(_BOUNDS_S, 0))

    def started(self, seconds: float) -> None:
        """Count a sandbox that became ready."""
        self.created += 1
        for bound in _BOUNDS_S:
            if seconds <= bound:
                self.starts[bound] += 1

    def measure(self, *, living: int, commands: int, infra_failures: int) -> BackendMetrics:
        """Return the counts, with those of the living sandboxes added."""
        return BackendMetrics(
            sandboxes=living,
            created=self.created,
            deleted=self.deleted,
            expired=self.expired,
            start_failures=self.start_failures,
            infra_failures=self.infra_failures + infra_failures,
            commands=self.commands + commands,
            start_seconds=dict(self.starts),
        )
