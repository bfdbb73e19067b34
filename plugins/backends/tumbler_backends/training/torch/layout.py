"""Which tokens of a trajectory a loss needs, and which segments have to be computed for them; knows no tensor."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from tumbler.contracts.batch import CreditedTrajectory
from tumbler.errors import TrajectoryError
from tumbler.trajectory.record import Chunk, Trajectory

__all__ = ["Example", "Span", "rl_examples", "sft_examples"]


@dataclass(frozen=True, kw_only=True)
class Span:
    """The tokens `start` to `end` (exclusive) of one row of an example."""

    row: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Example:
    """One trajectory as a loss sees it.

    Rows are the segments that hold a token of the loss, each cut after its last such token: in a causal
    model nothing behind it can matter. The first token of a segment is never part of a loss, since
    nothing predicts it.
    """

    trajectory: Trajectory
    trained: tuple[int, ...]
    """Indices of the chunks that the loss trains."""
    imitated: tuple[int, ...] = ()
    """Indices of the replayed chunks for an imitation term."""
    credits: tuple[float, ...] = ()
    """One for each chunk of the trajectory; empty for supervised training."""
    temperature: float = 1.0
    """By which logits are divided."""

    @cached_property
    def segments(self) -> tuple[int, ...]:
        """Return the segment of each row."""
        return tuple(sorted({chunk.segment for chunk in self._chunks}))

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """Return the tokens of the trained chunks, then those of the imitated ones."""
        row = {segment: index for index, segment in enumerate(self.segments)}
        return tuple(Span(row=row[each.segment], start=max(1, each.start), end=each.end) for each in self._chunks)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Return the tokens of each row."""
        return tuple(max(span.end for span in self.spans if span.row == row) for row in range(len(self.segments)))

    @cached_property
    def trained_tokens(self) -> int:
        """Return how many tokens the loss trains."""
        return sum(span.end - span.start for span in self.spans[: len(self.trained)])

    @cached_property
    def loss_tokens(self) -> int:
        """Return how many tokens a loss needs the log-probabilities of."""
        return sum(span.end - span.start for span in self.spans)

    def row_tokens(self, row: int) -> tuple[int, ...]:
        """Return the token ids of a row."""
        return self.trajectory.segments[self.segments[row]].token_ids[: self.lengths[row]]

    @property
    def _chunks(self) -> list[Chunk]:
        return [self.trajectory.chunks[index] for index in (*self.trained, *self.imitated)]


def sft_examples(batch: Iterable[Trajectory]) -> list[Example]:
    """Return the demonstrations, masked by Eq. 1-2 of arXiv 2512.24873.

    A chunk is trained unless its turn had an execution error or was not relevant. Logits are taken as
    they are, whatever the temperature of a self-sampled demonstration. Demonstrations without a token
    to train are left out.
    """
    examples = (Example(trajectory=trajectory, trained=_choose(trajectory, _worth_imitating)) for trajectory in batch)
    return [example for example in examples if example.loss_tokens]


def rl_examples(batch: Sequence[CreditedTrajectory]) -> list[Example]:
    """Return the trajectories with their trainable and their replayed chunks.

    Trajectories without a verdict or without a token of the loss are left out. Raise `TrajectoryError`
    unless there is one credit for each chunk.
    """
    examples = []
    for credited in batch:
        trajectory = credited.trajectory
        if len(credited.credits) != len(trajectory.chunks):
            raise TrajectoryError(
                f"trajectory {trajectory.id!r} has {len(trajectory.chunks)} chunk(s) but {len(credited.credits)} "
                "credit(s); the algorithm's `credit` must return one for each chunk, trainable or not"
            )
        example = Example(
            trajectory=trajectory,
            trained=_choose(trajectory, lambda chunk: chunk.trainable),
            imitated=_choose(trajectory, lambda chunk: chunk.replayed and _worth_imitating(chunk)),
            credits=credited.credits,
            # A greedy sampler reports the log-probabilities of temperature 1.
            temperature=trajectory.header.temperature or 1.0,
        )
        if trajectory.judged and example.loss_tokens:
            examples.append(example)
    return examples


def _worth_imitating(chunk: Chunk) -> bool:
    return chunk.relevant and not chunk.errored


def _choose(trajectory: Trajectory, wanted: Callable[[Chunk], bool]) -> tuple[int, ...]:
    """Return the indices of the wanted chunks that hold a token which something predicts."""
    return tuple(index for index, chunk in enumerate(trajectory.chunks) if wanted(chunk) and chunk.end > 1)
