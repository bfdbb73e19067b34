"""A served model as a `ChatModel`: asks over HTTP, tries again within bounds, and says what went wrong."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import httpx

from tumbler.contracts.chat import ChatMessage, ChatReply, OnText
from tumbler.contracts.values import JSON, JSONObject, ToolSpec
from tumbler.errors import ContextOverflowError, InferenceError
from tumbler_backends.gateway.upstream.asking import Wanted, write_request
from tumbler_backends.gateway.upstream.reading import read_events, read_reply
from tumbler_backends.gateway.upstream.settings import UpstreamSettings

__all__ = ["UpstreamModel"]

AnswerT = TypeVar("AnswerT")

_AGAIN: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses that another try may mend."""
_OVERFLOW: Final = ("context_length_exceeded", "context length", "prompt is too long", "exceed_context_size")
"""How servers say that a conversation does not fit."""
_FIRST_WAIT_S: Final = 0.5
_CHARACTERS_A_TOKEN: Final = 3.5
"""Of English text and code; errs on the side of too many tokens."""
_SHOWN: Final = 400
"""Characters of a server's error that a message shows."""


class _Again(Exception):
    """A try that may be repeated."""

    def __init__(self, error: InferenceError, wait: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait = wait


class UpstreamModel:
    """Asks one model at one server. Calls may run side by side."""

    def __init__(self, settings: UpstreamSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Open nothing yet; `transport` carries the requests, over the network where it is None."""
        self._settings = settings
        key = settings.api_key
        headers = {} if key is None else {"authorization": f"Bearer {key.get_secret_value()}"}
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(settings.timeout, connect=min(10.0, settings.timeout)),
            limits=httpx.Limits(max_connections=None),
            transport=transport,
        )

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec] = (),
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] = (),
        on_text: OnText | None = None,
    ) -> ChatReply:
        """Return the reply; raises `ContextOverflowError` and, after all tries, `InferenceError`.

        Nothing is tried again once `on_text` was told a piece.
        """
        told = False

        async def tell(piece: str) -> None:
            nonlocal told
            told = True
            if on_text is not None:
                await on_text(piece)

        async def read(response: httpx.Response) -> ChatReply:
            if on_text is not None and "event-stream" in response.headers.get("content-type", ""):
                return await read_events(response.aiter_bytes(), tell)
            return read_reply(_json(await response.aread()))

        wanted = Wanted(max_tokens=max_tokens, temperature=temperature, stop=stop, stream=on_text is not None)
        body = write_request(self._settings.model, messages, tools, wanted)
        return await self._ask("/chat/completions", body, read, once=lambda: told)

    async def complete(self, body: JSONObject) -> JSON:
        """Return the answer to a request for a completion of plain text or tokens; raises as `chat` does."""

        async def read(response: httpx.Response) -> JSON:
            return _json(await response.aread())

        return await self._ask("/completions", {"model": self._settings.model, **body}, read)

    @property
    def base_url(self) -> str:
        """Return where the model is served."""
        return self._settings.base_url

    @property
    def context_length(self) -> int:
        """Return what the settings say."""
        return self._settings.context_length

    def count(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """Return an estimate from the length of the request, since the tokenizer is the server's own."""
        body = write_request(self._settings.model, messages, tools, Wanted())
        return int(len(json.dumps(body, ensure_ascii=False)) / _CHARACTERS_A_TOKEN) + 1

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(
        self,
        path: str,
        body: JSONObject,
        read: Callable[[httpx.Response], Awaitable[AnswerT]],
        *,
        once: Callable[[], bool] = lambda: False,
    ) -> AnswerT:
        """Return what `read` makes of the answer; `once` says that the caller has seen too much for another try."""
        content = json.dumps(body).encode()
        for number in range(self._settings.retries + 1):
            try:
                return await self._try(path, content, read, once)
            except _Again as again:
                if number == self._settings.retries:
                    raise InferenceError(f"{again.error} (tried {number + 1} times)") from again
                await asyncio.sleep(self._wait(number, again.wait))
        raise AssertionError("the last try returns or raises")

    async def _try(
        self, path: str, body: bytes, read: Callable[[httpx.Response], Awaitable[AnswerT]], once: Callable[[], bool]
    ) -> AnswerT:
        url = f"{self._settings.base_url}{path}"
        try:
            headers = {"content-type": "application/json"}
            async with self._client.stream("POST", url, content=body, headers=headers) as response:
                if response.status_code != httpx.codes.OK:
                    raise _failure(response, (await response.aread()).decode(errors="replace"))
                return await read(response)
        except httpx.InvalidURL as error:
            raise InferenceError(f"{url} is no address: {error}") from error
        except httpx.HTTPError as error:
            failed = InferenceError(f"{url} cannot be reached: {type(error).__name__}: {error}")
            if once():
                raise failed from error
            raise _Again(failed) from error

    def _wait(self, number: int, asked: float | None) -> float:
        wait = asked if asked is not None else _FIRST_WAIT_S * 2**number * random.uniform(0.75, 1.25)
        return max(0.0, min(wait, self._settings.longest_wait))


def _json(content: bytes) -> JSON:
    try:
        value: JSON = json.loads(content)
    except ValueError as error:
        start = content[:_SHOWN].decode(errors="replace")
        raise InferenceError(f"the server's answer is not JSON: {error}: {start!r}") from error
    return value


def _failure(response: httpx.Response, text: str) -> Exception:
    """Return what to raise for an answer that is no reply."""
    status, said = response.status_code, text[:_SHOWN].strip()
    if status in (400, 413, 422) and any(sign in text.lower() for sign in _OVERFLOW):
        return ContextOverflowError(f"the conversation does not fit the served model: {said}")
    failed = InferenceError(f"{response.url} answered {status}: {said or 'nothing'}{_ADVICE.get(status, '')}")
    return _Again(failed, _retry_after(response)) if status in _AGAIN else failed


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return float(response.headers["retry-after"])
    except (KeyError, ValueError):
        return None


_ADVICE: Final = {
    401: "; set api_key to a key that the server knows",
    403: "; set api_key to a key that may use this model",
    404: "; base_url must end where /completions or /chat/completions follows, often in /v1, and the model must be one "
    "of the server's",
}
