"""Turns every error of a call into a status and words that agents understand; knows no server."""

import logging
import math
from collections.abc import Mapping
from typing import Final

from tumbler.errors import ContextOverflowError, EpisodeError, InferenceError
from tumbler_backends.gateway.wire.format import BadRequest

__all__ = ["FINAL", "Refused", "refusal"]

_LOG = logging.getLogger("tumbler.gateway")

FINAL: Final[Mapping[str, str]] = {"x-should-retry": "false"}
"""Tells the clients that trying again is of no use; they would otherwise, at statuses such as 429."""
_RETRY_AFTER_S: Final = 1.0


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        parameter: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Keep what the answer says."""
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.parameter = parameter
        self.headers = dict(headers or {})


def refusal(error: BaseException, *, session: str) -> Refused:
    """Return how an error is answered; one that nobody foresaw is logged with its traceback."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, BadRequest):
        return Refused(400, "invalid_request_error", str(error), parameter=error.parameter)
    if isinstance(error, ContextOverflowError):
        # Agents look for these words before they compact, whichever API they speak.
        message = f"prompt is too long: it exceeds the maximum context length. {error}"
        return Refused(400, "context_length_exceeded", message, parameter="messages", headers=FINAL)
    if isinstance(error, InferenceError):
        wait = str(math.ceil(_RETRY_AFTER_S))
        return Refused(503, "overloaded_error", f"the model failed: {error}", headers={"retry-after": wait})
    if isinstance(error, EpisodeError):
        return Refused(410, "session_over", f"the episode cannot go on: {error}", headers=FINAL)
    _LOG.error("a call of session %s failed", session, exc_info=error)
    return Refused(500, "api_error", "the gateway failed; its log tells why", headers=FINAL)
