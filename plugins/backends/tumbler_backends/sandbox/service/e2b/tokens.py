"""Access tokens of sandboxes and signatures of file URLs; stateless, and compared in constant time."""

import base64
import hashlib
import hmac
import time

__all__ = ["signature_fits", "token_fits", "token_of"]


def token_of(secret: bytes, sandbox: str) -> str:
    """Return the token that opens one sandbox."""
    return hmac.new(secret, f"e2b access {sandbox}".encode(), hashlib.sha256).hexdigest()


def token_fits(secret: bytes, sandbox: str, shown: str) -> bool:
    """Tell whether `shown` is the sandbox's token."""
    return hmac.compare_digest(token_of(secret, sandbox).encode(), shown.encode())


def signature_fits(token: str, *, path: str, operation: str, user: str, shown: str, expiration: str | None) -> bool:
    """Tell whether a file URL was signed with a sandbox's token and is not past its time.

    Args:
        token: the sandbox's token.
        path: as in the URL.
        operation: `read` or `write`.
        user: as in the URL, or empty.
        shown: the signature of the URL.
        expiration: seconds since the epoch, as in the URL; None is never.
    """
    words = [path, operation, user, token]
    if expiration is not None:
        if not expiration.isdecimal() or int(expiration) < time.time():
            return False
        words.append(expiration)
    digest = hashlib.sha256(":".join(words).encode()).digest()
    right = "v1_" + base64.b64encode(digest).decode().rstrip("=")
    return hmac.compare_digest(right.encode(), shown.encode())
