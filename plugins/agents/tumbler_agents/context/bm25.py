"""BM25 over short passages, and how a text is split into its terms (Robertson and Zaragoza 2009, equation 3.15)."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

__all__ = ["score", "terms"]

_SATURATION: Final = 1.2
_LENGTH: Final = 0.75
_WORD: Final = re.compile(r"[^\W_]+")
_UNSPACED: Final = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_COMMON: Final = 0.5
_FEW: Final = 4
_SHORTEST_PLURAL: Final = 4


# A pipeline asks a strategy twice, to see whether it plans the same again.
@lru_cache(maxsize=256)
def terms(text: str) -> tuple[str, ...]:
    """Return the words of a text in the singular, and its numbers; scripts without spaces, and Korean, as pairs."""
    found: list[str] = []
    for word in _WORD.findall(text.casefold()):
        if word.isascii():
            found.append(_singular(word))
        elif len(word) > 1 and _UNSPACED.search(word):
            found += [word[index : index + 2] for index in range(len(word) - 1)]
        else:
            found.append(word)
    return tuple(found)


def score(query: Iterable[Mapping[int, int]], lengths: Sequence[int]) -> Mapping[int, float]:
    """Return how well passages fit a query, those that do at all: passage → score.

    `query` says of each of its terms how often which passages have it, and `lengths` how many terms each passage has;
    one of length 0 is none. Terms that more than half of the passages have tell nothing, and are left out where there
    are at least four passages.
    """
    among = sum(length > 0 for length in lengths)
    average = sum(lengths) / max(1, among)
    most = _COMMON * among if among >= _FEW else among
    scores: defaultdict[int, float] = defaultdict(float)
    for holding in query:
        if len(holding) > most:
            continue
        rarity = math.log(1 + (among - len(holding) + 0.5) / (len(holding) + 0.5))
        for passage, often in holding.items():
            length = 1 - _LENGTH + _LENGTH * lengths[passage] / average
            scores[passage] += rarity * often * (_SATURATION + 1) / (often + _SATURATION * length)
    return scores


def _singular(word: str) -> str:
    """Return an English word without the ending of a plural, as the S-stemmer of Harman (1991) takes it away."""
    if len(word) < _SHORTEST_PLURAL or not word.endswith("s") or word.endswith(("us", "ss")):
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return f"{word[:-3]}y"
    return word[:-1]
