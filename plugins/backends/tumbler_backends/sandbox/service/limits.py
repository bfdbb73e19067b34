"""What surrounds the application: the limit of a body, the server's instance in each answer, and the local names."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

from starlette.exceptions import HTTPException

from tumbler_backends.sandbox.service.settings import is_loopback

__all__ = ["Application", "Message", "Receive", "Scope", "Send", "Surroundings"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_UPLOADS: Final = ("/files/content", "/files")
"""Where contents of files are sent to: in the native API, and by E2B's clients."""
_REFUSED: Final = b'{"error":"PolicyDenied","message":"without tokens, the service answers to local names only"}'


class Surroundings:
    """An ASGI application around another one."""

    def __init__(
        self,
        inner: Application,
        *,
        header: tuple[bytes, bytes],
        body_bytes: int,
        upload_bytes: int,
        local_only: bool,
    ) -> None:
        """Add `header` to all answers.

        With `local_only`, requests that name another host are refused: a page in a browser of this machine could
        otherwise send them here, under a name of its own that leads to the loopback address.
        """
        self._inner = inner
        self._header = header
        self._body_bytes = body_bytes
        self._upload_bytes = upload_bytes
        self._local_only = local_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), self._header]}
            await send(message)

        if self._local_only and not is_loopback(_host(scope)):
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_REFUSED)).encode())]
            await marked({"type": "http.response.start", "status": 403, "headers": headers})
            await marked({"type": "http.response.body", "body": _REFUSED})
            return
        # Uploads have a limit of their own, and never lie in memory.
        limit = self._upload_bytes if scope["path"].endswith(_UPLOADS) else self._body_bytes
        await self._inner(scope, _limited(receive, limit), marked)


def _limited(receive: Receive, limit: int) -> Receive:
    count = 0

    async def counted() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > limit:
            raise HTTPException(413, f"the body is larger than the {limit} bytes that this service takes")
        return message

    return counted


def _host(scope: Scope) -> str:
    """Return the name that the client used, without the port."""
    given = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
    if given.startswith("["):
        return given[1:].partition("]")[0]
    return given.partition(":")[0]
