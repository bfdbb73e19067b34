"""An inverted index that grows passage by passage: which passages hold a term, and how often; knows no score.

It lies in a state as plain JSON, and a pipeline copies states before each prompt: so it is a few dozen long strings,
and not a dictionary of many thousand lists.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final
from zlib import crc32

from tumbler.contracts.values import JSON

__all__ = ["Postings"]

_BUCKETS: Final = 64


class Postings:
    """Lines `term passage passage*times …`, in buckets by a checksum of the term."""

    def __init__(self, kept: JSON = None) -> None:
        """Read what `to_json` gave; start empty with None."""
        found = kept.items() if isinstance(kept, Mapping) else ()
        self._buckets = {bucket: str(lines) for bucket, lines in found}

    def to_json(self) -> JSON:
        """Return all of it."""
        return dict(self._buckets)

    def add(self, passage: int, terms: Iterable[str]) -> None:
        """Add a passage, once."""
        for term, times in Counter(terms).items():
            bucket, posting = _bucket(term), f" {passage}*{times}" if times > 1 else f" {passage}"
            lines = self._buckets.get(bucket, "\n")
            end = _end(lines, term)
            self._buckets[bucket] = f"{lines}{term}{posting}\n" if end < 0 else f"{lines[:end]}{posting}{lines[end:]}"

    def rarest(self, terms: Iterable[str], most: int) -> Sequence[Mapping[int, int]]:
        """Return where the rarest of the terms are, at most so many, of those that are anywhere: passage → times."""
        lines = [line for term in dict.fromkeys(terms) if (line := self._line(term))]
        return [_parsed(line) for line in sorted(lines, key=lambda line: line.count(" "))[:most]]

    def _line(self, term: str) -> str:
        """Return the postings of a term; nothing where no passage holds it."""
        lines = self._buckets.get(_bucket(term), "\n")
        end = _end(lines, term)
        return lines[lines.rindex("\n", 0, end) + len(term) + 2 : end] if end >= 0 else ""


# The rare terms of a turn stay rare, and each prompt is planned twice.
@lru_cache(maxsize=1024)
def _parsed(line: str) -> Mapping[int, int]:
    found = (posting.partition("*") for posting in line.split(" "))
    return {int(passage): int(times or 1) for passage, _, times in found}


def _bucket(term: str) -> str:
    return str(crc32(term.encode("utf-8", "surrogatepass")) % _BUCKETS)


def _end(lines: str, term: str) -> int:
    """Return where the term's line ends; -1 if there is none."""
    start = lines.find(f"\n{term} ")
    return lines.index("\n", start + 1) if start >= 0 else -1
