"""Put values into texts and words of settings: whole, in one pass, and never through a shell; knows no program."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

__all__ = ["fill", "unknown_places"]

_PLACE = re.compile(r"\{([a-z_]+)\}")


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return the text with `{name}` replaced where `values` has the name; what they hold is not looked at again."""
    return _PLACE.sub(lambda match: values.get(match[1], match[0]), text)


def unknown_places(texts: Iterable[str], known: Iterable[str]) -> str:
    """Return what is wrong with the places in the texts, or an empty text."""
    names = sorted(known)
    for text in texts:
        for name in _PLACE.findall(text):
            if name not in names:
                near = get_close_matches(name, names, n=1)
                hint = f"; did you mean {{{near[0]}}}?" if near else ""
                return (
                    f"{{{name}}} stands for nothing here; there is {', '.join(f'{{{each}}}' for each in names)}{hint}"
                )
    return ""
