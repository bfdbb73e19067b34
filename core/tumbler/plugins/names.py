"""Names of plugins, components and distributions: their form, and suggestions for misspelt ones."""

import re
from collections.abc import Iterable

from tumbler.markers import PROJECT

__all__ = ["FIRST_PARTY", "RESERVED_NAMES", "did_you_mean", "is_well_formed", "normalise"]

FIRST_PARTY = PROJECT
"""The normalised name of the one distribution whose components have bare ids."""

RESERVED_NAMES = frozenset({PROJECT, "all", "builtin", "core", "none"})
"""Names that no plugin may take: Tumbler keeps them for itself."""

MOST_CANDIDATES = 10

_WELL_FORMED = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def is_well_formed(name: str) -> bool:
    """Tell whether the name is made of lower-case words and digits, joined by single hyphens."""
    return _WELL_FORMED.fullmatch(name) is not None


def normalise(distribution: str) -> str:
    """Return the distribution's name in the one spelling that package indexes compare by."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return what a message should add for a name that nothing has: close names, else what there is.

    At most ten candidates are named. A candidate `plugin/name` is also close if its last part is.
    """
    from difflib import get_close_matches

    known = sorted(set(candidates))
    by_tail = {each: each.rpartition("/")[2] for each in known}
    close = [*get_close_matches(name, known, n=MOST_CANDIDATES)]
    tails = set(get_close_matches(name.rpartition("/")[2], set(by_tail.values()), n=MOST_CANDIDATES))
    close += [each for each in known if by_tail[each] in tails and each not in close]
    if close:
        return f"Did you mean {_alternatives(close[:MOST_CANDIDATES])}?"
    if not known:
        return "There are none."
    more = f" and {len(known) - MOST_CANDIDATES} more" if len(known) > MOST_CANDIDATES else ""
    return f"There are: {', '.join(known[:MOST_CANDIDATES])}{more}."


def _alternatives(names: list[str]) -> str:
    quoted = [repr(name) for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
