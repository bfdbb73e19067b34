"""BM25 over short passages, and how a text is split into its terms (Robertson and Zaragoza 2009, equation 3.15)."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

__all__ = ["score", "terms"]

_SATURATION: Final = 1.2
_LENGTH: Final = 0.75
_WORD: Final = re.compile(r"[^\W_]+")
_UNSPACED: Final = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_COMMON: Final = 0.5
_FEW: Final = 4


def terms(text: str) -> list[str]:
    """Return the words and numbers of a text; scripts without spaces, and Korean, as pairs of characters."""
    found: list[str] = []
    for word in _WORD.findall(text.casefold()):
        if len(word) > 1 and _UNSPACED.search(word):
            found += [word[index : index + 2] for index in range(len(word) - 1)]
        else:
            found.append(word)
    return found


def score(query: Sequence[str], passages: Sequence[Sequence[str]]) -> list[float]:
    """Return how well each passage fits the query.

    Terms that more than half of the passages have tell nothing, and are left out where there are at least four
    passages.
    """
    counts = [Counter(passage) for passage in passages]
    average = sum(len(passage) for passage in passages) / len(passages) if passages else 0.0
    scores = [0.0] * len(passages)
    for term in dict.fromkeys(query):
        holding = [index for index, count in enumerate(counts) if term in count]
        if not holding or (len(passages) >= _FEW and len(holding) > _COMMON * len(passages)):
            continue
        rarity = math.log(1 + (len(passages) - len(holding) + 0.5) / (len(holding) + 0.5))
        for index in holding:
            often = counts[index][term]
            length = 1 - _LENGTH + _LENGTH * len(passages[index]) / average
            scores[index] += rarity * often * (_SATURATION + 1) / (often + _SATURATION * length)
    return scores
