"""Say Modal's errors in Tumbler's words; knows no sandbox."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpclib
from grpclib.exceptions import StreamTerminatedError
from modal import exception as modal_errors

from tumbler.errors import (
    CapabilityError,
    QuotaExceeded,
    SandboxError,
    SandboxNameTaken,
    SandboxNotFound,
    SandboxUnavailable,
)

__all__ = ["FAILURES", "GONE", "calling", "explain"]

FAILURES = (
    modal_errors.Error,
    grpclib.GRPCError,
    StreamTerminatedError,
    OSError,
)
"""What a call of Modal's client raises. `TimeoutError` is an `OSError`."""
GONE = (modal_errors.NotFoundError, modal_errors.ConflictError, modal_errors.SandboxTerminatedError)
"""What Modal answers about a sandbox that does not run any more."""

_CREDENTIALS = (
    "set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, or run `modal token new`, which writes ~/.modal.toml "
    "(a profile of it is chosen with MODAL_PROFILE)"
)


def explain(error: BaseException, what: str) -> SandboxError:
    """Return Tumbler's error for one of Modal's that came when trying `what`."""
    if isinstance(error, SandboxError):
        return error
    message = f"{what}: {str(error) or type(error).__name__}"
    if isinstance(error, modal_errors.AuthError | modal_errors.PermissionDeniedError):
        return SandboxUnavailable(f"Modal refuses the credentials, {message}; {_CREDENTIALS}")
    if isinstance(error, modal_errors.NotFoundError):
        return SandboxNotFound(f"Modal does not know it, {message}")
    if isinstance(error, modal_errors.AlreadyExistsError):
        return SandboxNameTaken(f"Modal has one of that name already, {message}")
    if isinstance(error, modal_errors.ResourceExhaustedError):
        return QuotaExceeded(f"Modal refuses, {message}")
    if isinstance(error, modal_errors.UnimplementedError):
        return CapabilityError(f"this Modal service cannot do that, {message}")
    if isinstance(error, modal_errors.InvalidError):
        return SandboxError(f"Modal refuses, {message}")
    return SandboxUnavailable(f"Modal did not answer, {message}")


@contextlib.asynccontextmanager
async def calling(what: str, timeout: float) -> AsyncIterator[None]:
    """Bound the calls within to `timeout` seconds, and raise Tumbler's errors for Modal's."""
    try:
        async with asyncio.timeout(timeout):
            yield
    except SandboxError:
        raise
    except TimeoutError as error:
        raise SandboxUnavailable(f"Modal did not answer within {timeout:g} s, {what}") from error
    except FAILURES as error:
        raise explain(error, what) from error
