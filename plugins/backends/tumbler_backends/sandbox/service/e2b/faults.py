"""How exceptions read on the wire: HTTP status for the control plane and files, code for the RPCs."""

import errno
from typing import Final

from tumbler.errors import (
    CapabilityError,
    PolicyDenied,
    QuotaExceeded,
    SandboxDied,
    SandboxError,
    SandboxNameTaken,
    SandboxNotFound,
    SandboxUnavailable,
)

__all__ = ["GONE", "HTTP_STATUS", "RefusedError", "RpcError", "rpc_error", "status_and_message"]

GONE: Final = "The sandbox was not found"
"""The words by which clients know that a sandbox does not run any more."""

HTTP_STATUS: Final = {
    "canceled": 499,
    "unknown": 500,
    "invalid_argument": 400,
    "deadline_exceeded": 504,
    "not_found": 404,
    "already_exists": 409,
    "permission_denied": 403,
    "resource_exhausted": 429,
    "failed_precondition": 400,
    "aborted": 409,
    "out_of_range": 400,
    "unimplemented": 501,
    "internal": 500,
    "unavailable": 503,
    "data_loss": 500,
    "unauthenticated": 401,
}
"""Code of the Connect protocol → HTTP status of a unary answer."""

_CODES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (SandboxNotFound, "unavailable"),
    (SandboxDied, "unavailable"),
    (SandboxUnavailable, "unavailable"),
    (CapabilityError, "unimplemented"),
    (SandboxNameTaken, "already_exists"),
    (QuotaExceeded, "resource_exhausted"),
    (PolicyDenied, "permission_denied"),
    (SandboxError, "internal"),
    (FileNotFoundError, "not_found"),
    (ProcessLookupError, "not_found"),
    (FileExistsError, "already_exists"),
    (NotADirectoryError, "invalid_argument"),
    (IsADirectoryError, "invalid_argument"),
    (PermissionError, "permission_denied"),
    (BrokenPipeError, "failed_precondition"),
    (ValueError, "invalid_argument"),
)
_STATUS: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (SandboxNotFound, 404),
    (SandboxDied, 404),
    (SandboxUnavailable, 503),
    (CapabilityError, 400),
    (SandboxNameTaken, 409),
    (QuotaExceeded, 429),
    (PolicyDenied, 403),
    (SandboxError, 500),
    (FileNotFoundError, 404),
    (PermissionError, 403),
    (NotADirectoryError, 400),
    (IsADirectoryError, 400),
    (FileExistsError, 400),
    (ValueError, 400),
)
_OF_ERRNO: Final = {
    errno.ENOSPC: ("resource_exhausted", 507),
    errno.EDQUOT: ("resource_exhausted", 507),
    errno.EINVAL: ("invalid_argument", 400),
    errno.ELOOP: ("invalid_argument", 400),
    errno.ENAMETOOLONG: ("invalid_argument", 400),
    errno.ENOTEMPTY: ("failed_precondition", 409),
}


class RpcError(Exception):
    """An answer of the Connect protocol that is an error."""

    def __init__(self, code: str, message: str) -> None:
        """Take a code of `HTTP_STATUS`."""
        super().__init__(message)
        self.code = code
        self.message = message


class RefusedError(Exception):
    """An answer of the control plane or of /files that is an error."""

    def __init__(self, status: int, message: str) -> None:
        """Take an HTTP status."""
        super().__init__(message)
        self.status = status
        self.message = message


def rpc_error(error: Exception) -> RpcError:
    """Return the RPC error that tells a client of `error`."""
    if isinstance(error, RpcError):
        return error
    if isinstance(error, SandboxNotFound | SandboxDied):
        return RpcError("unavailable", f"{GONE}: {error}")
    for kind, code in _CODES:
        if isinstance(error, kind):
            return RpcError(code, str(error))
    if isinstance(error, OSError):
        return RpcError(_OF_ERRNO.get(error.errno or 0, ("internal", 500))[0], str(error))
    return RpcError("internal", f"{type(error).__name__}: {error}")


def status_and_message(error: Exception) -> tuple[int, str]:
    """Return the HTTP status and the words that tell a client of `error`."""
    if isinstance(error, RefusedError):
        return error.status, error.message
    if isinstance(error, RpcError):
        return HTTP_STATUS[error.code], error.message
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status, str(error)
    if isinstance(error, OSError):
        return _OF_ERRNO.get(error.errno or 0, ("internal", 500))[1], str(error)
    return 500, f"{type(error).__name__}: {error}"
