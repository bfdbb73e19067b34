"""Adds up what a call of the backend measured; knows no tensor."""

import math
import time
from collections.abc import Mapping

__all__ = ["Tally"]

COUNTERS = {"epoch", "num_tokens", "step_time"}
"""What TRL counts over the whole run, or times, and is told elsewhere."""


class Tally:
    """Sums over micro-batches and optimizer steps, and the wall time since it was made."""

    def __init__(self) -> None:
        self.steps = 0
        """Optimizer steps taken."""
        self.empty = 0
        """Optimizer steps not taken, since nothing was to be learnt."""
        self.skipped = 0
        """Optimizer steps not taken, since loss or gradient was not finite."""
        self._learning_rate: float | None = None
        self._means: dict[str, tuple[float, float]] = {}
        self._started = time.perf_counter()

    def add(self, name: str, total: float, count: float) -> None:
        """Add to a mean."""
        had_total, had_count = self._means.get(name, (0.0, 0.0))
        self._means[name] = (had_total + total, had_count + count)

    def add_logs(self, logs: Mapping[str, float], count: float) -> None:
        """Add what TRL logged of a micro-batch of `count` trained tokens; only its entropy has a name of ours."""
        for name, value in logs.items():
            if name not in COUNTERS and value is not None and math.isfinite(value):
                self.add("train/entropy" if name == "entropy" else f"trl/{name}", value * count, count)

    def add_step(self, *, gradient_norm: float, learning_rate: float) -> None:
        """Count an optimizer step that was taken."""
        self.steps += 1
        self.add("train/gradient_norm", gradient_norm, 1)
        self._learning_rate = learning_rate

    def metrics(self) -> dict[str, float]:
        """Return the means that have a count, the seconds, and how many steps were not taken."""
        rate = {} if self._learning_rate is None else {"train/learning_rate": self._learning_rate}
        return {
            **rate,
            **{name: total / count for name, (total, count) in self._means.items() if count},
            "train/seconds_total": time.perf_counter() - self._started,
            "train/empty_steps": float(self.empty),
            "train/skipped_steps": float(self.skipped),
        }
