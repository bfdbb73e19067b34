"""Tells which packages of an extra are not installed, from metadata alone; imports none of them."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

__all__ = ["missing_packages"]


def missing_packages(distribution: str, extra: str) -> list[str]:
    """Return the packages that the distribution's extra asks for and that are not installed, sorted."""
    return sorted({name for name in _asked_for(distribution, {extra}) if not _installed(name)})


def _asked_for(distribution: str, extras: set[str]) -> Iterator[str]:
    """Yield the packages of the extras, those of extras that name other extras too."""
    from packaging.requirements import Requirement

    done: set[str] = set()
    waiting = set(extras)
    requirements = [Requirement(text) for text in _requires(distribution)]
    while waiting:
        extra = waiting.pop()
        done.add(extra)
        for requirement in requirements:
            marker = requirement.marker
            if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": extra}):
                continue
            if requirement.name == distribution:
                waiting |= requirement.extras - done
            else:
                yield requirement.name


def _requires(distribution: str) -> list[str]:
    try:
        return requires(distribution) or []
    except PackageNotFoundError:
        return []


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
