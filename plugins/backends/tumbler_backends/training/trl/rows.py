"""Trajectories as rows of tokens for TRL's trainers: one row for each segment that holds a token of the loss.

Knows no tensor.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from tumbler.contracts.batch import CreditedTrajectory
from tumbler.errors import RunError, TrajectoryError
from tumbler.trajectory.record import Chunk, Trajectory

__all__ = ["Example", "Row", "rollout_examples", "supervised_examples"]

IGNORED = -100
"""The label of a token that is not trained, by Hugging Face's convention."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """A segment, cut after its last token of the loss: in a causal model nothing behind it can matter."""

    tokens: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    """Start and end (exclusive) of each run of trained tokens. The first token of a segment is never trained,
    since nothing predicts it."""
    sampled: tuple[float, ...] = ()
    """The inference engine's log-probability of each trained token; empty for supervised training."""
    advantage: float = 0.0

    @property
    def first(self) -> int:
        """Return the position of the first trained token; at least 1."""
        return self.spans[0][0]

    @cached_property
    def trained(self) -> int:
        """Return how many tokens are trained."""
        return sum(end - start for start, end in self.spans)

    @property
    def labels(self) -> list[int]:
        """Return each trained token, and `IGNORED` at the other positions."""
        return [token if kept else IGNORED for token, kept in zip(self.tokens, self.mask, strict=True)]

    @property
    def mask(self) -> list[int]:
        """Return 1 for each trained token and 0 for the others."""
        return [int(kept) for kept in self._spread([1.0] * self.trained)]

    @property
    def sampling_logprobs(self) -> list[float]:
        """Return the inference engine's log-probability of each trained token, and 0 at the other positions."""
        return self._spread(self.sampled)

    def _spread(self, values: Sequence[float]) -> list[float]:
        row, given = [0.0] * len(self.tokens), iter(values)
        for start, end in self.spans:
            row[start:end] = [next(given) for _ in range(start, end)]
        return row


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """The rows of one trajectory."""

    rows: tuple[Row, ...]
    temperature: float = 1.0
    """At which its tokens were sampled."""

    @property
    def trained(self) -> int:
        """Return how many tokens are trained."""
        return sum(row.trained for row in self.rows)


def supervised_examples(batch: Iterable[Trajectory]) -> list[Example]:
    """Return the demonstrations, masked by Eq. 1-2 of arXiv 2512.24873.

    A chunk is trained unless its turn had an execution error or was not relevant; it stays in the input.
    Demonstrations without a token to train are left out.
    """
    examples = (
        Example(rows=_rows(trajectory, lambda chunk: chunk.relevant and not chunk.errored)) for trajectory in batch
    )
    return [example for example in examples if example.rows]


def rollout_examples(batch: Sequence[CreditedTrajectory]) -> list[Example]:
    """Return the trajectories, each row with the one advantage of its trajectory.

    Trajectories without a verdict or without a trainable token are left out. Raise `TrajectoryError` unless
    there is one credit for each chunk, and `RunError` if credits are more than one value per trajectory.
    """
    examples = []
    for credited in batch:
        trajectory = credited.trajectory
        if len(credited.credits) != len(trajectory.chunks):
            raise TrajectoryError(
                f"trajectory {trajectory.id!r} has {len(trajectory.chunks)} chunk(s) but {len(credited.credits)} "
                "credit(s); the algorithm's `credit` must return one for each chunk, trainable or not"
            )
        rows = _rows(trajectory, lambda chunk: chunk.trainable, advantage=_advantage(credited))
        if trajectory.judged and rows:
            # A greedy sampler reports the log-probabilities of temperature 1.
            examples.append(Example(rows=rows, temperature=trajectory.header.temperature or 1.0))
    return examples


def _advantage(credited: CreditedTrajectory) -> float:
    """Return the credit that all trainable chunks share; 0 if there are none."""
    pairs = zip(credited.trajectory.chunks, credited.credits, strict=True)
    values = {credit for chunk, credit in pairs if chunk.trainable}
    if len(values) > 1:
        raise RunError(
            f"the chunks of trajectory {credited.trajectory.id!r} have {len(values)} different credits, from "
            f"{min(values):g} to {max(values):g}; TRL trains one advantage per trajectory: take an algorithm such "
            'as "grpo", or the training backend "torch"'
        )
    return values.pop() if values else 0.0


def _rows(trajectory: Trajectory, wanted: Callable[[Chunk], bool], *, advantage: float = 0.0) -> tuple[Row, ...]:
    rows = []
    for segment in trajectory.segments:
        chunks = [each for each in trajectory.chunks if each.segment == segment.id and wanted(each) and each.end > 1]
        if not chunks:
            continue
        spans = tuple((max(1, chunk.start), chunk.end) for chunk in chunks)
        sampled = (
            chunk.behaviour_logprobs[start - end :] or (0.0,) * (end - start)
            for chunk, (start, end) in zip(chunks, spans, strict=True)
        )
        rows.append(
            Row(
                tokens=segment.token_ids[: spans[-1][1]],
                spans=spans,
                sampled=tuple(value for values in sampled for value in values),
                advantage=advantage,
            )
        )
    return tuple(rows)
