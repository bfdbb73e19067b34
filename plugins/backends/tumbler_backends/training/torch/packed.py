"""Rows packed into one without padding, each common run once. R rows, T their width, N packed tokens.

M is the runs of a bundle, W their width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tumbler_backends.training.torch.prefixes import Run, encode, row_tree

__all__ = ["Bundle", "Packed", "pack"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """Runs of like length behind one and the same prefix of P tokens, which one call of attention computes."""

    prefix: Tensor
    """[P] int64: packed indices of the tokens before every run; their positions are 0 to P - 1."""
    own: Tensor
    """[M, W] int64: packed indices of the runs' tokens, right-padded with the run's first."""
    masks: dict[tuple[int | None, torch.dtype], Tensor | None] = field(default_factory=dict)
    """What `mask` has made so far, since all layers can use the same."""

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """Return [1, 1, W, P + W], 0 for what a token sees and -inf elsewhere; None if that is plainly causal.

        A token sees itself and all before it, or with a window the last `window` of these.
        """
        if (window, dtype) not in self.masks:
            self.masks[window, dtype] = self._mask(window, dtype)
        return self.masks[window, dtype]

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        before, width = len(self.prefix), self.own.shape[1]
        total = before + width
        window = window or total
        if before == 0 and window >= total:
            return None
        device = self.own.device
        seen = torch.ones(width, total, dtype=torch.bool, device=device).tril(before).triu(before - window + 1)
        return torch.zeros(1, 1, width, total, dtype=dtype, device=device).masked_fill(~seen, -math.inf)


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """What a model computes instead of the padded rows."""

    token_ids: Tensor
    """[1, N] int64."""
    positions: Tensor
    """[1, N] int64: of each token in its row."""
    bundles: tuple[Bundle, ...]
    cells: Tensor
    """[N] int64: where each token lies in the bundles' `own`, flattened and one after the other."""
    of_rows: Tensor
    """[R, T] int64: packed index of each token of the padded rows, 0 at the padding."""


def pack(rows: Sequence[Sequence[int]], *, device: torch.device) -> Packed | None:
    """Return the rows of token ids packed; None if they are better computed with padding."""
    tree = row_tree([encode(row) for row in rows])
    if not tree.packs:
        return None
    places = _places(tree.runs)
    # For each run the packed indices of a whole row up to the run's end.
    paths = [[place for step in tree.path(index) for place in places[step]] for index in range(len(places))]
    bundles = _bundles(tree.runs)
    width = max(map(len, rows))

    def tensor(values: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    return Packed(
        token_ids=tensor([[token for run in tree.runs for token in rows[run.row][run.start : run.end]]]),
        positions=tensor([[position for run in tree.runs for position in range(run.start, run.end)]]),
        bundles=tuple(
            Bundle(
                prefix=tensor(paths[bundle[0]][: tree.runs[bundle[0]].start]),
                own=tensor([_padded(places[index], len(places[bundle[0]])) for index in bundle]),
            )
            for bundle in bundles
        ),
        cells=tensor(_cells(bundles, places)),
        of_rows=tensor(
            [[*paths[run][: len(row)], *[0] * (width - len(row))] for row, run in zip(rows, tree.last, strict=True)]
        ),
    )


def _places(runs: Sequence[Run]) -> list[range]:
    """Return the packed indices of each run's tokens."""
    places: list[range] = []
    for run in runs:
        first = places[-1].stop if places else 0
        places.append(range(first, first + run.end - run.start))
    return places


def _bundles(runs: Sequence[Run]) -> list[list[int]]:
    """Return the runs by their parent, from long to short, with none in a bundle shorter than half of its first."""
    bundles: list[list[int]] = []
    for index in sorted(
        range(len(runs)), key=lambda each: (runs[each].start, runs[each].parent or 0, -_length(runs[each]))
    ):
        first = runs[bundles[-1][0]] if bundles else None
        if first is None or first.parent != runs[index].parent or 2 * _length(runs[index]) < _length(first):
            bundles.append([])
        bundles[-1].append(index)
    return bundles


def _length(run: Run) -> int:
    return run.end - run.start


def _padded(places: range, width: int) -> list[int]:
    return [*places, *[places.start] * (width - len(places))]


def _cells(bundles: Sequence[Sequence[int]], places: Sequence[range]) -> list[int]:
    cells = [0] * places[-1].stop
    filled = 0
    for bundle in bundles:
        for index in bundle:
            own = places[index]
            cells[own.start : own.stop] = range(filled, filled + len(own))
            filled += len(places[bundle[0]])
    return cells
