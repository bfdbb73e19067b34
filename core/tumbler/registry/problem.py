"""What is wrong in a registry file: one record for each mistake, and how to say it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tumbler.errors import RegistryError
from tumbler.plugins.names import did_you_mean

__all__ = ["Problem", "Severity", "registry_error", "suggest"]

Severity: TypeAlias = Literal["error", "missing-extra"]
"""`missing-extra`: the file is right, but what it uses is not installed on this machine."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One mistake in a registry file."""

    file: str
    """The file as it was named by the caller, or `--set` for an override."""
    path: str
    """Dotted path of the key; empty if the whole file is meant."""
    message: str
    remedy: str
    line: int | None = None
    """Line of the key or of the nearest table above it, from 1; None where it is not known."""
    severity: Severity = "error"

    def __str__(self) -> str:
        """Return the problem as one line: file, line, path, message, remedy."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.path, f"{self.message}; {self.remedy}") if part)


def registry_error(problems: Iterable[Problem]) -> RegistryError:
    """Return the error that lists all problems, one a line, and carries them."""
    listed = tuple(problems)
    return RegistryError("\n".join(str(problem) for problem in listed), problems=listed)


def suggest(name: str, candidates: Iterable[str]) -> str:
    """Return a remedy for a name that is not known: the close candidates, or at most ten of them."""
    advice = did_you_mean(name, candidates).removesuffix(".")
    return advice[0].lower() + advice[1:]
