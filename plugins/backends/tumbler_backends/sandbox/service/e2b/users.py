"""Which user a request names, and whether a sandbox can serve it; knows no path."""

import base64
import binascii
from typing import Final

from starlette.requests import Request

from tumbler.contracts.sandbox_control import CompleteSandbox
from tumbler_backends.sandbox.service.e2b.faults import RpcError

__all__ = ["require_user"]

_DEFAULT: Final = "user"
"""The name of a template's unprivileged user; each sandbox has one user here, whatever its real name is."""


def require_user(request: Request, sandbox: CompleteSandbox) -> None:
    """Raise `RpcError` for a user whom the sandbox does not have."""
    user = request.query_params.get("username", "") or _of_header(request.headers.get("authorization", ""))
    if user not in {"", _DEFAULT, sandbox.spec.user}:
        raise RpcError(
            "invalid_argument",
            f"user {user!r} is not offered: all commands of a sandbox run as its one user; leave the user out",
        )


def _of_header(header: str) -> str:
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        raise RpcError("unauthenticated", "the Authorization header cannot be read") from None
