"""The connection to the service: requests with bounds, repeated where that is safe; knows no sandbox."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from tumbler.errors import SandboxError, SandboxUnavailable
from tumbler_backends.sandbox.remote.settings import RemoteSettings
from tumbler_backends.sandbox.wire.problems import Problem, error_of

__all__ = ["Link", "Query", "place"]

Query: TypeAlias = Mapping[str, str | int | float | bool | None]

_INSTANCE: Final = "Tumbler-Instance"
_FIRST_DELAY_S: Final = 0.05
_LONGEST_DELAY_S: Final = 2.0
_IDLE_S: Final = 30.0
"""Less than the service keeps idle connections."""
_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, kw_only=True)
class _Request:
    method: str
    url: str
    content: bytes | AsyncIterable[bytes] | None
    headers: Mapping[str, str]


class Link:
    """Speaks to one service, from one event loop."""

    def __init__(self, settings: RemoteSettings) -> None:
        """Open no connection yet."""
        self._settings = settings
        self._client: httpx.AsyncClient | None = None
        self._instance: str | None = None
        self.infra_failures = 0

    @property
    def local(self) -> bool:
        """Return whether the service is on this machine."""
        return urlsplit(self._settings.url).hostname in ("127.0.0.1", "::1", "localhost")

    def open(self) -> None:
        """Make ready to speak."""
        if self._client is not None:
            return
        token = self._settings.token
        self._client = httpx.AsyncClient(
            base_url=self._settings.url.rstrip("/"),
            headers={} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=_IDLE_S),
            trust_env=not self.local,  # proxies do not lead to this machine
        )

    async def close(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: BaseModel | bytes | AsyncIterable[bytes] | None = None,
        query: Query | None = None,
        seconds: float = 0.0,
        repeat: bool = False,
        pinned: bool = False,
        patience: float | None = None,
    ) -> httpx.Response:
        """Return the answer; raise the error that it describes, or `SandboxUnavailable` if there is none.

        Args:
            method: of HTTP.
            path: below /v1, with what is not plain already quoted.
            body: a model for JSON, bytes, or pieces.
            query: parameters; None leaves one out.
            seconds: how long the service may take; the settings' slack is added.
            repeat: whether doing it twice is the same as doing it once.
            pinned: whether that is so only as long as the service is not restarted.
            patience: for how many seconds it may be repeated, where that is less than the settings say.
        """
        request = _request(method, path, body, query)
        deadline = time.monotonic() + min(self._settings.retry_seconds, math.inf if patience is None else patience)
        delay, sent_to = _FIRST_DELAY_S, None
        while True:
            headers = {**request.headers, **({} if sent_to is None else {_INSTANCE: sent_to})}
            instance = self._instance
            try:
                response = await self._attempt(request, headers, seconds)
            except (httpx.TransportError, TimeoutError) as error:
                sent = not isinstance(error, _NEVER_SENT)
                if pinned and sent and sent_to is None:
                    sent_to = instance
                if (sent and not repeat) or time.monotonic() + delay > deadline:
                    raise self._unreachable(error) from error
                wait = delay * random.uniform(0.5, 1.5)
            else:
                busy = _retry_after(response)
                if busy is None or time.monotonic() + busy > deadline:
                    return self._checked(response)
                wait = busy
            await asyncio.sleep(wait)
            delay = min(2 * delay, _LONGEST_DELAY_S)

    @asynccontextmanager
    async def stream(self, path: str, query: Query, *, silence: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open the body of a GET for reading; more than `silence` seconds without a byte end it as unavailable."""
        request = _request("GET", path, None, query)
        timeout = httpx.Timeout(silence, connect=self._settings.connect_timeout)
        try:
            async with self._opened().stream(request.method, request.url, timeout=timeout) as response:
                if response.is_error:
                    await response.aread()
                yield self._checked(response).aiter_raw()
        except (httpx.TransportError, httpx.StreamError) as error:
            raise self._unreachable(error) from error

    async def _attempt(self, request: _Request, headers: Mapping[str, str], seconds: float) -> httpx.Response:
        bound = seconds + self._settings.slack
        timeout = httpx.Timeout(bound, connect=self._settings.connect_timeout)
        streams = isinstance(request.content, AsyncIterable)
        # A stream takes as long as it takes; each of its pieces has the bound.
        async with asyncio.timeout(None if streams else bound + self._settings.connect_timeout):
            return await self._opened().request(
                request.method, request.url, content=request.content, headers=dict(headers), timeout=timeout
            )

    def _checked(self, response: httpx.Response) -> httpx.Response:
        self._instance = response.headers.get(_INSTANCE, self._instance)
        if not response.is_error:
            return response
        try:
            problem = Problem.model_validate_json(response.content)
        except ValidationError:
            raise self._failed(
                SandboxUnavailable(f"{self._settings.url} answered {response.status_code}: is a sandbox service there?")
            ) from None
        raise self._failed(error_of(problem))

    def _failed(self, error: Exception) -> Exception:
        self.infra_failures += isinstance(error, SandboxError) and error.infra
        return error

    def _unreachable(self, error: Exception) -> Exception:
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        return self._failed(
            SandboxUnavailable(f"the sandbox service at {self._settings.url} does not answer ({reason})")
        )

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            raise SandboxUnavailable("the remote backend is not started: await its start() first")
        return self._client


def place(*parts: str) -> str:
    """Return a path of these parts, whatever is in them."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _request(
    method: str, path: str, body: BaseModel | bytes | AsyncIterable[bytes] | None, query: Query | None
) -> _Request:
    # Booleans as JSON has them; file names of any bytes.
    given = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in (query or {}).items()}
    wanted = {key: text for key, text in given.items() if (query or {})[key] is not None}
    url = f"/v1{path}?{urlencode(wanted, errors='surrogateescape')}" if wanted else f"/v1{path}"
    if isinstance(body, BaseModel):
        json = body.model_dump_json(exclude_defaults=True).encode()
        return _Request(method=method, url=url, content=json, headers={"Content-Type": "application/json"})
    kind = {} if body is None else {"Content-Type": "application/octet-stream"}
    return _Request(method=method, url=url, content=body, headers=kind)


def _retry_after(response: httpx.Response) -> float | None:
    """Return how long to wait before the same request again; None where that is no use."""
    if response.status_code not in (429, 503) or "Retry-After" not in response.headers:
        return None
    try:
        exact = Problem.model_validate_json(response.content).details.get("retry_after")
        return float(exact if isinstance(exact, int | float) else response.headers["Retry-After"])
    except ValueError:
        return _LONGEST_DELAY_S
