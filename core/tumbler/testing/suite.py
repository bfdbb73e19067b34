"""What all contract suites share: known failures with their reasons, and asynchronous tests without a plugin.

A suite is subclassed in a test module, with the one fixture that its docstring names.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import ClassVar, ParamSpec

import pytest

__all__ = ["ContractSuite", "asynchronous"]

Arguments = ParamSpec("Arguments")

_SECONDS = 120.0
"""The bound of one asynchronous test, so that a call that never returns is a failure and not a stop."""


class ContractSuite:
    """The base of the suites.

    A test that an implementation is known to fail is named in `known_failures` with the reason. It still
    runs, and the suite fails once it passes: an entry never outlives its reason.
    """

    known_failures: ClassVar[Mapping[str, str]] = {}
    """Name of a test → why this implementation fails it."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Mark the known failures; raise `TypeError` for one that names no test or gives no reason."""
        super().__init_subclass__(**kwargs)
        for name, reason in vars(cls).get("known_failures", {}).items():
            test = getattr(cls, name, None)
            if not name.startswith("test_") or not callable(test):
                tests = ", ".join(each for each in dir(cls) if each.startswith("test_"))
                raise TypeError(f"{cls.__name__}.known_failures names {name!r}, which is no test; the tests: {tests}")
            if not reason.strip():
                raise TypeError(f"{cls.__name__}.known_failures[{name!r}] must say why the test fails")
            setattr(cls, name, pytest.mark.xfail(strict=True, reason=reason)(_copy(test)))


def asynchronous(test: Callable[Arguments, Awaitable[None]]) -> Callable[Arguments, None]:
    """Make a plain test of an asynchronous one, in an event loop of its own and with a bound on its time."""

    @wraps(test)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(_SECONDS):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


def _copy(test: Callable[..., object]) -> Callable[..., object]:
    """Return the test as a function of its own, so that a mark on it does not show in the base class."""
    if inspect.iscoroutinefunction(test):

        @wraps(test)
        async def run_async(*args: object, **kwargs: object) -> object:
            return await test(*args, **kwargs)

        return run_async

    @wraps(test)
    def run(*args: object, **kwargs: object) -> object:
        return test(*args, **kwargs)

    return run
