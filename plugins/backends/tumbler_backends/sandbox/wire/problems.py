"""Errors on the wire: a problem names the class, and the client raises the same class with the same fields."""

import os
from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field, JsonValue

from tumbler import errors
from tumbler.contracts.sandbox import ExecResult
from tumbler_backends.sandbox.wire.answers import ExecAnswer
from tumbler_backends.sandbox.wire.fields import Answer

__all__ = ["Problem", "error_of", "problem_of"]


class Problem(Answer):
    """What went wrong."""

    error: str
    """The error's class, such as `SandboxNotFound` or `FileNotFoundError`."""
    message: str
    """What went wrong, in words."""
    retryable: bool = False
    """Whether the same request may succeed later."""
    infra: bool = False
    """Whether the infrastructure is at fault, not the caller."""
    details: dict[str, JsonValue] = Field(default_factory=dict)
    """More fields of the error."""


_SANDBOX_ERRORS: Final[Mapping[str, type[errors.SandboxError]]] = {
    each.__name__: each
    for each in (
        errors.SandboxError,
        errors.SandboxUnavailable,
        errors.SandboxNotFound,
        errors.SandboxNameTaken,
        errors.SandboxDied,
        errors.SandboxStartFailed,
        errors.CapabilityError,
        errors.ExecTimeout,
        errors.ExecFailed,
        errors.OutputLimit,
        errors.QuotaExceeded,
        errors.PolicyDenied,
        errors.SessionEnded,
    )
}
_FIELDS: Final = ("cause", "phase", "exit_status", "partial")
"""What sandbox errors carry beside their message."""

_BUILTINS: Final[Mapping[str, type[Exception]]] = {
    each.__name__: each
    for each in (
        BrokenPipeError,
        EOFError,
        FileExistsError,
        FileNotFoundError,
        InterruptedError,
        IsADirectoryError,
        NotADirectoryError,
        OSError,
        PermissionError,
        ProcessLookupError,
        TimeoutError,
        ValueError,
    )
}


def problem_of(error: BaseException) -> Problem:
    """Describe an error, so that `error_of` makes one of the same class with the same fields."""
    if isinstance(error, errors.SandboxError):
        return Problem(
            error=_name(error, _SANDBOX_ERRORS),
            message=_shown(str(error)),
            retryable=error.retryable,
            infra=error.infra,
            details={
                field: _plain(getattr(error, field)) for field in _FIELDS if getattr(error, field, None) is not None
            },
        )
    details: dict[str, JsonValue] = {}
    if isinstance(error, OSError) and error.errno is not None:
        paths: list[JsonValue] = [_path(each) for each in (error.filename, error.filename2) if each is not None]
        details = {"errno": error.errno, "reason": _shown(error.strerror or ""), "paths": paths}
    return Problem(error=_name(error, _BUILTINS), message=_shown(str(error)), details=details)


def error_of(problem: Problem) -> Exception:
    """Return the error that a problem describes; a class unknown here becomes a `SandboxError`."""
    if problem.error in _BUILTINS:
        return _builtin(_BUILTINS[problem.error], problem)
    kind = _SANDBOX_ERRORS.get(problem.error, errors.SandboxError)
    error = kind(problem.message)
    for field in _FIELDS:
        if field in problem.details and hasattr(error, field):
            setattr(error, field, _revived(field, problem.details[field]))
    return error


def _builtin(kind: type[Exception], problem: Problem) -> Exception:
    number = problem.details.get("errno")
    if not issubclass(kind, OSError) or not isinstance(number, int):
        return kind(problem.message)
    reason, paths = problem.details.get("reason"), problem.details.get("paths")
    first, second, *_ = [*paths, None, None] if isinstance(paths, list) else [None, None]
    return kind(number, str(reason or os.strerror(number)), first, None, second)


def _name(error: BaseException, known: Mapping[str, Any]) -> str:
    """Return the nearest class of the error that the other side knows."""
    return next((each.__name__ for each in type(error).__mro__ if each.__name__ in known), type(error).__name__)


def _plain(value: object) -> JsonValue:
    if isinstance(value, ExecResult):
        plain: dict[str, JsonValue] = ExecAnswer.model_validate(value).model_dump(mode="json")
        return plain
    return value if isinstance(value, int) else _shown(str(value))


def _revived(field: str, value: JsonValue) -> object:
    return ExecAnswer.model_validate(value).value() if field == "partial" and value is not None else value


def _path(path: object) -> str:
    return _shown(os.fsdecode(path) if isinstance(path, bytes) else str(path))


def _shown(text: str) -> str:
    """Return the text with what is not UTF-8 replaced."""
    return text.encode(errors="surrogatepass").decode(errors="replace")
