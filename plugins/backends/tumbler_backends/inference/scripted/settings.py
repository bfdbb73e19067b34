"""The settings of the `scripted` inference backend."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from tumbler.config import Settings

__all__ = ["Rule", "ScriptedSettings"]


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from error
    return text


class Rule(Settings):
    """What is said to what was read."""

    when: Annotated[str, AfterValidator(_pattern)]
    """A regular expression that is looked for in the whole prompt, as text without control tokens."""
    reply: str
    r"""What is then said; `\1` and `\g<name>` stand for what the groups of `when` have matched."""


class ScriptedSettings(Settings):
    """A script. Of all rules that match, the one whose last match ends latest in the prompt speaks, else the first."""

    rules: tuple[Rule, ...] = Field(default=())
    """In the order in which equal ones are taken."""
    otherwise: str = ""
    """What is said where no rule matches; empty is an error that shows the end of the prompt."""
