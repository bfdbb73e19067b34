"""Finds the prefixes that rows have in common and lays the rows out as a tree of runs; knows no tensor.

A run is a stretch of tokens that is computed once for all rows through it.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

__all__ = ["TOKEN", "RowTree", "Run", "common", "encode", "row_tree"]

MIN_SAVED = 64
"""Tokens that a common run must save: with fewer, its own call of attention in each layer costs what it spares."""
MOST_PACKED = 0.9
"""Of the padded rows' tokens: with more, gathering the runs in each layer costs what packing spares."""
TOKEN = 4
"""Bytes of an encoded token."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The tokens `start` to `end` (exclusive) of `row` and of every other row through the run."""

    row: int
    start: int
    end: int
    parent: int | None
    """Index of the run that ends where this one starts; None at the start of a row."""


@dataclass(frozen=True, kw_only=True)
class RowTree:
    """The runs of some rows, each after its parent."""

    runs: tuple[Run, ...]
    last: tuple[int, ...]
    """For each row the index of its last run."""
    padded: int
    """Tokens of the rows, padded to the longest."""

    @property
    def packs(self) -> bool:
        """Return whether it is worth it to compute the runs rather than the padded rows."""
        return self._tokens <= MOST_PACKED * self.padded

    @property
    def computed(self) -> int:
        """Return how many tokens are computed."""
        return self._tokens if self.packs else self.padded

    @property
    def reread(self) -> int:
        """Return how many tokens' keys and values are read again, summed over the runs that read them."""
        return sum(run.start for run in self.runs) if self.packs else 0

    def path(self, index: int) -> list[int]:
        """Return the runs from the start of a row to run `index`, in their order."""
        path: list[int] = []
        step: int | None = index
        while step is not None:
            path.append(step)
            step = self.runs[step].parent
        return path[::-1]

    @property
    def _tokens(self) -> int:
        return sum(run.end - run.start for run in self.runs)


def encode(token_ids: Sequence[int]) -> bytes:
    """Return a row as bytes, which compare and sort at the speed of memory."""
    return array("I", token_ids).tobytes()


def row_tree(rows: Sequence[bytes]) -> RowTree:
    """Return the tree of encoded rows, in which every common run that saves `MIN_SAVED` tokens is shared."""
    branchings = _branchings(rows)
    runs: list[Run] = []
    last = [0] * len(rows)
    # For each branching the last of the runs up to it, which may end before it.
    reached: list[int | None] = []
    for branching, chosen in zip(branchings, _worth_a_run(branchings), strict=True):
        parent = None if branching.parent is None else reached[branching.parent]
        start = 0 if parent is None else runs[parent].end
        if chosen and branching.end > start:
            runs.append(Run(row=branching.row, start=start, end=branching.end, parent=parent))
            parent = len(runs) - 1
        reached.append(parent)
        if branching.is_row and parent is not None:
            last[branching.row] = parent
    padded = len(rows) * max(map(len, rows)) // TOKEN
    return RowTree(runs=tuple(runs), last=tuple(last), padded=padded)


class _Branching(NamedTuple):
    """Where rows that began alike part, or where a row ends."""

    row: int
    end: int
    parent: int | None
    is_row: bool


def _branchings(rows: Sequence[bytes]) -> list[_Branching]:
    """Return all branchings and the ends of all rows, each after its parent."""
    order = sorted(range(len(rows)), key=rows.__getitem__)
    # Rows in order that share a prefix are neighbours, and share what all neighbours between them share.
    shared = [0, *(common(rows[one], rows[other]) for one, other in pairwise(order))]
    found: list[_Branching] = []
    waiting: list[tuple[range, int | None]] = [(range(len(order)), None)]
    while waiting:
        members, parent = waiting.pop()
        row = order[members[0]]
        if len(members) == 1:
            found.append(_Branching(row=row, end=len(rows[row]) // TOKEN, parent=parent, is_row=True))
            continue
        end = min(shared[index] for index in members[1:])
        found.append(_Branching(row=row, end=end, parent=parent, is_row=False))
        waiting.extend((branch, len(found) - 1) for branch in _split(members, shared, end))
    return found


def _worth_a_run(branchings: Sequence[_Branching]) -> list[bool]:
    """Return for each branching whether a run should end there."""
    chosen = [False] * len(branchings)
    # How many runs go on behind each branching.
    behind = [0] * len(branchings)
    for index in reversed(range(len(branchings))):
        _, end, parent, is_row = branchings[index]
        start = 0 if parent is None else branchings[parent].end
        chosen[index] = is_row or (end - start) * (behind[index] - 1) >= MIN_SAVED
        if parent is not None:
            behind[parent] += 1 if chosen[index] else behind[index]
    return chosen


def _split(members: range, shared: Sequence[int], end: int) -> Iterator[range]:
    """Split the rows wherever two neighbours share no more than `end` tokens."""
    first = members[0]
    for index in members[1:]:
        if shared[index] == end:
            yield range(first, index)
            first = index
    yield range(first, members[-1] + 1)


def common(one: bytes, other: bytes) -> int:
    """Return how many tokens two encoded rows have in common at their start."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low // TOKEN
