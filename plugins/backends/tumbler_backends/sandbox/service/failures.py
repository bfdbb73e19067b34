"""Turns every error into a problem body with a status; knows no route."""

import errno
import logging
import math
from collections.abc import Mapping
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tumbler import errors
from tumbler_backends.sandbox.service.admission import Busy
from tumbler_backends.sandbox.service.desk import Restarted
from tumbler_backends.sandbox.service.tenants import RateLimited, Unauthorized
from tumbler_backends.sandbox.wire.problems import Problem, problem_of

__all__ = ["PROBLEMS", "install"]

_LOG = logging.getLogger("tumbler.sandbox.service")

_STATUS: Final[Mapping[type[Exception], int]] = {
    Unauthorized: 401,
    Restarted: 412,
    errors.SandboxUnavailable: 503,
    errors.SandboxNotFound: 404,
    errors.SandboxNameTaken: 409,
    errors.SandboxDied: 410,
    errors.SessionEnded: 410,
    errors.CapabilityError: 422,
    errors.OutputLimit: 413,
    errors.QuotaExceeded: 429,
    errors.PolicyDenied: 403,
    errors.ExecFailed: 409,
    errors.ExecTimeout: 408,
    errors.ComponentNotFoundError: 404,
    errors.RegistryError: 422,
    errors.ContractError: 409,
    errors.SandboxError: 502,
    errors.TumblerError: 502,
    FileNotFoundError: 404,
    ProcessLookupError: 404,
    PermissionError: 403,
    TimeoutError: 408,
    EOFError: 409,
    OSError: 409,
    ValueError: 422,
}
"""The first of an error's classes that is here decides."""

_TOO_LARGE: Final = (errno.EFBIG, errno.ENOSPC, errno.EDQUOT)
_OF_THE_SPEC: Final = ("image", "template", "files", "healthcheck", "mounts")
"""Phases of a start that fail because of what was asked for."""

_DESCRIPTIONS: Final[Mapping[int, str]] = {
    400: "The request cannot be read.",
    401: "No token, or one that is not known.",
    403: "The policy, or a file's mode, forbids it.",
    404: "There is no such sandbox, process, file or path.",
    405: "The path knows no such method.",
    408: "It did not happen in time.",
    409: "The state of the files, the process or the session forbids it.",
    410: "The sandbox or the session is gone.",
    412: "The service was restarted since the first try.",
    413: "More bytes than allowed.",
    422: "What is asked for is malformed, or cannot be enforced here.",
    429: "The quota is used up; with Retry-After where waiting helps.",
    502: "The backend failed.",
    503: "Too much to do; Retry-After says when to come back.",
}

PROBLEMS: Final[dict[int | str, dict[str, object]]] = {
    status: {"model": Problem, "description": text} for status, text in _DESCRIPTIONS.items()
}
"""For `responses=` of a router."""


def install(app: FastAPI) -> None:
    """Answer all errors of the application with problems."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for kind in (errors.TumblerError, OSError, EOFError, ValueError):
        app.add_exception_handler(kind, _raised)
    app.add_exception_handler(Exception, _defect)


def _status(error: Exception) -> int:
    if isinstance(error, errors.SandboxStartFailed) and error.phase in _OF_THE_SPEC:
        return 422
    if isinstance(error, OSError) and error.errno in _TOO_LARGE:
        return 413
    return next(_STATUS[each] for each in type(error).__mro__ if each in _STATUS)


async def _raised(request: Request, error: Exception) -> JSONResponse:
    status = _status(error)
    problem, headers = problem_of(error), {}
    if isinstance(error, Busy | RateLimited):
        headers["Retry-After"] = str(math.ceil(error.retry_after))
        problem = problem.model_copy(update={"details": {"retry_after": error.retry_after}})
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _answer(request, status, problem, headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    lines = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()]
    return _answer(request, 422, Problem(error="ValueError", message="; ".join(lines[:10])))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    problem = Problem(error="ValueError", message=str(error.detail))
    return _answer(request, error.status_code, problem, dict(error.headers or {}))


async def _defect(request: Request, error: Exception) -> JSONResponse:
    _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(request, 500, Problem(error="SandboxError", message="the service failed; its log tells", infra=True))


def _answer(request: Request, status: int, problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    request.app.state.desk.holdings.metrics.failed(problem.error, infra=problem.infra)
    return JSONResponse(problem.model_dump(mode="json"), status_code=status, headers=dict(headers or {}))
