"""What a client counts of its own doings; knows no wire."""

from collections import Counter
from typing import Final

from tumbler.contracts.sandbox_control import BackendMetrics

__all__ = ["Counts"]

_BOUNDS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, float("inf"))


class Counts:
    """The counts of one client, and the ids of the sandboxes that it made and has not deleted."""

    def __init__(self) -> None:
        """Start at zero."""
        self.made: set[str] = set()
        self.commands = 0
        self.start_failures = 0
        self._created = 0
        self._deleted = 0
        self._starts: Counter[float] = Counter()

    def created(self, identity: str, seconds: float) -> None:
        """Count a sandbox that was made within `seconds`; the same one twice is one."""
        if identity not in self.made:
            self.made.add(identity)
            self._created += 1
            for bound in _BOUNDS:
                self._starts[bound] += seconds <= bound

    def deleted(self, identity: str) -> None:
        """Count a sandbox that is gone."""
        if identity in self.made:
            self.made.discard(identity)
            self._deleted += 1

    def metrics(self, *, infra_failures: int) -> BackendMetrics:
        """Return the counts as the contract has them."""
        return BackendMetrics(
            sandboxes=len(self.made),
            created=self._created,
            deleted=self._deleted,
            start_failures=self.start_failures,
            infra_failures=infra_failures,
            commands=self.commands,
            start_seconds=dict(self._starts),
        )
