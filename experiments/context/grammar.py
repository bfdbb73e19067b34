"""The few sentences in which tasks say what matters, written and read back; knows no task and no strategy."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = ["CLOSING", "NOW", "ORDER", "REMEMBERED", "Fact", "facts_in", "request_in"]

_FACT: Final = re.compile(r"The ([a-z][a-z ]{0,30}?) of ([a-z][a-z0-9-]{0,30}) is ([^.\n\"]{1,160})\.")
_NOW: Final = re.compile(r"^Now: ([^\n]+)\.$", re.MULTILINE)
NOW: Final = "Now: "
"""What a line begins with that says what is to be done."""
REMEMBERED: Final = 4096
"""Texts whose reading is kept: each prompt of an episode repeats nearly all texts of the one before."""


@dataclass(frozen=True)
class Fact:
    """Something that a task's text says."""

    attribute: str
    subject: str
    value: str

    @property
    def key(self) -> tuple[str, str]:
        """Return what the fact is about; a later fact of the same key replaces it."""
        return self.attribute, self.subject

    @property
    def name(self) -> str:
        """Return the key as one word."""
        return f"{self.attribute.replace(' ', '-')}.{self.subject}"

    def __str__(self) -> str:
        """Return the sentence."""
        return f"The {self.attribute} of {self.subject} is {self.value}."


CLOSING: Final = ("closing word", "reports")
"""The key of the rule that says with which word reports end."""
ORDER: Final = ("order", "sites")
"""The key of the plan that says which site comes after which."""


@lru_cache(maxsize=REMEMBERED)
def facts_in(text: str) -> tuple[Fact, ...]:
    """Return the facts of a text in their order."""
    return tuple(Fact(*match.groups()) for match in _FACT.finditer(text))


@lru_cache(maxsize=REMEMBERED)
def request_in(text: str) -> str | None:
    """Return what the last line of its kind asks for, without the words around it."""
    found = _NOW.findall(text)
    return found[-1] if found else None
