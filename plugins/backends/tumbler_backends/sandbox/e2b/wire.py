"""The way to one sandbox: E2B's clients, and their errors in Tumbler's words.

Commands use the generated RPC client below the SDK's own `commands`, because that decodes output as text.
"""

import asyncio
import errno
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import httpx
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b import AsyncSandbox
from e2b.api.client_async import get_envd_api
from e2b.connection_config import KEEPALIVE_PING_HEADER, KEEPALIVE_PING_INTERVAL_SEC
from e2b.envd.api import acheck_sandbox_health, ahandle_envd_api_transport_exception_with_health
from e2b.envd.client_async import as_stream, create_rpc_client, first_event
from e2b.envd.filesystem.filesystem_connect import FilesystemClient
from e2b.envd.process.process_connect import ProcessClient
from e2b.envd.rpc import ahandle_rpc_exception_with_health
from e2b.envd.utils import authentication_header, timeout_to_ms
from e2b.exceptions import (
    AuthenticationException,
    InvalidArgumentException,
    NotEnoughSpaceException,
    NotFoundException,
    RateLimitException,
    SandboxException,
    SandboxNotFoundException,
    SandboxNotRunningException,
    ServiceBusyException,
    TimeoutException,
)
from packaging.version import Version

from tumbler.errors import CapabilityError, QuotaExceeded, SandboxError, SandboxUnavailable
from tumbler_backends.sandbox.e2b.life import Life

__all__ = ["ERRORS", "Wire", "let_cancellation_pass", "told"]

Event = TypeVar("Event")

ERRORS: Final = (ConnectError, SandboxException, AuthenticationException, ServiceBusyException, httpx.TransportError)
"""What E2B's clients raise."""
_ENVD: Final = Version("0.5.7")
"""Below this version of the sandbox's own server, streams of files do not exist."""


class Wire:
    """The clients of one sandbox."""

    def __init__(self, sdk: AsyncSandbox, life: Life, user: str | None, request_timeout: float) -> None:
        """Speak as `user`; None is the template's."""
        self.sdk = sdk
        self.life = life
        self.user = user
        self.request_timeout = request_timeout
        self.processes: ProcessClient = create_rpc_client(ProcessClient, sdk.envd_api_url, sdk.connection_config)
        self.files: FilesystemClient = create_rpc_client(FilesystemClient, sdk.envd_api_url, sdk.connection_config)
        self._health = get_envd_api(sdk.connection_config, sdk.envd_api_url, retry_connect=False)

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of an RPC."""
        return authentication_header(_ENVD, self.user)

    @property
    def stream_headers(self) -> dict[str, str]:
        """Return the headers of an RPC that streams."""
        return {**self.headers, KEEPALIVE_PING_HEADER: str(KEEPALIVE_PING_INTERVAL_SEC)}

    @property
    def milliseconds(self) -> int | None:
        """Return the bound of one request."""
        return timeout_to_ms(self.request_timeout)

    async def opened(self, events: AsyncIterator[Event]) -> tuple[Event, AsyncGenerator[Event, None]]:
        """Return a stream's first event and the stream; raise what E2B's clients raise."""
        stream = as_stream(events)
        try:
            return await first_event(stream, self.request_timeout), stream
        except BaseException:
            await stream.aclose()
            raise

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Refuse a dead sandbox, count as a use, and raise Tumbler's errors for E2B's."""
        self.life.require()
        with self.life.active():
            try:
                yield
            except ERRORS as error:
                raise await self.translated(error) from error

    async def translated(self, error: Exception) -> Exception:
        """Return Tumbler's error for one of E2B's; ask for the sandbox's health where the error does not say."""
        let_cancellation_pass(error)
        if self.life.ended:
            return self.life.death()
        known: BaseException = error
        if isinstance(error, ConnectError):
            known = await ahandle_rpc_exception_with_health(error, lambda: acheck_sandbox_health(self._health))
        elif isinstance(error, httpx.TransportError):
            known = await ahandle_envd_api_transport_exception_with_health(error, self._health)
        if self.life.ended:  # meanwhile
            return self.life.death()
        if isinstance(known, SandboxNotRunningException | SandboxNotFoundException):
            return self.life.lost()
        return told(known)


def let_cancellation_pass(error: Exception) -> None:
    """Raise `CancelledError` where the RPC client has made an error of its own of it."""
    if isinstance(error, ConnectError) and isinstance(error.__cause__, asyncio.CancelledError):
        raise asyncio.CancelledError from error


def told(error: BaseException) -> Exception:
    """Return Tumbler's error for one of E2B's that does not tell of a sandbox's end."""
    if isinstance(error, NotEnoughSpaceException):
        return QuotaExceeded(f"the sandbox's disk is full: {error}")
    if isinstance(error, RateLimitException):
        return QuotaExceeded(str(error))
    if isinstance(error, AuthenticationException):
        return SandboxError(f"E2B refused the API key or the sandbox's token: {error}")
    if isinstance(error, TimeoutException | ServiceBusyException | httpx.TransportError):
        return SandboxUnavailable(f"E2B cannot be reached, or did not answer in time: {error}")
    if isinstance(error, InvalidArgumentException) or getattr(error, "status_code", None) in {400, 501}:
        return CapabilityError(f"E2B refused the request: {error}")
    if isinstance(error, ConnectError) and error.code in {Code.UNIMPLEMENTED, Code.FAILED_PRECONDITION}:
        return CapabilityError(f"E2B refused the request: {error.message}")
    if isinstance(error, NotFoundException):
        return FileNotFoundError(errno.ENOENT, str(error))
    return SandboxError(f"E2B failed: {error}")
