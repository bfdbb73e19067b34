"""Adds up what a call of the trainer measured; knows no tensor."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tumbler.contracts.batch import LossOutput

__all__ = ["Tally"]


class Tally:
    """Sums over micro-batches and optimizer steps."""

    def __init__(self) -> None:
        self.steps = 0
        """Optimizer steps taken."""
        self.empty = 0
        """Optimizer steps not taken, since nothing was to be learnt."""
        self.skipped = 0
        """Optimizer steps not taken, since loss or gradient was not finite."""
        self.computed = 0
        """Tokens that forward passes with gradient computed, padding included."""
        self.samples: dict[str, list[float]] = defaultdict(list)
        """Of the losses; those of optimizer steps are in `gradient_norms`."""
        self.gradient_norms: list[float] = []
        """Of the steps taken, before clipping."""
        self._learning_rate: float | None = None
        self._means: dict[str, tuple[float, float]] = {}
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Add the wall time of the block to `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - started

    def add(self, name: str, total: float, count: float) -> None:
        """Add to a mean."""
        had_total, had_count = self._means.get(name, (0.0, 0.0))
        self._means[name] = (had_total + total, had_count + count)

    def add_pass(self, *, tokens: int, computed: int) -> None:
        """Count the tokens of one pass over all rows, and those that it computes."""
        self.computed += computed
        self.add("train/shared_share", max(0, tokens - computed), tokens)

    def add_losses(self, outputs: Sequence[LossOutput]) -> None:
        """Add what the algorithm said of one optimizer step's micro-batches."""
        for output in outputs:
            self.add("train/loss", float(output.total), output.denominator)
            for name, (value, count) in output.metrics.items():
                self.add(name, value, count)
            for name, values in output.samples.items():
                self.samples[name].extend(values)

    def add_step(self, *, gradient_norm: float, learning_rate: float) -> None:
        """Count an optimizer step that was taken."""
        self.steps += 1
        self.gradient_norms.append(gradient_norm)
        self._learning_rate = learning_rate

    def merge(self, others: Sequence["Tally"]) -> None:
        """Add what other trainers measured in the same optimizer steps, of shares of the same batch.

        Steps are taken together, so that they count once; seconds are those of the slowest.
        """
        for other in others:
            self.computed += other.computed
            for name, (total, count) in other._means.items():
                self.add(name, total, count)
            for name, values in other.samples.items():
                self.samples[name].extend(values)
            for name, seconds in other._seconds.items():
                self._seconds[name] = max(self._seconds[name], seconds)

    def metrics(self) -> Mapping[str, float]:
        """Return the means that have a count, the seconds, and how many steps were not taken."""
        taken = {} if self._learning_rate is None else {"train/learning_rate": self._learning_rate}
        if self.gradient_norms:
            taken["train/gradient_norm"] = sum(self.gradient_norms) / len(self.gradient_norms)
        return {
            **taken,
            **{name: total / count for name, (total, count) in self._means.items() if count},
            **{f"train/seconds_{name}": seconds for name, seconds in self._seconds.items()},
            "train/empty_steps": float(self.empty),
            "train/skipped_steps": float(self.skipped),
        }
