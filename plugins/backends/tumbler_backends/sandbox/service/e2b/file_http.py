"""Files over plain HTTP as envd has them: downloads, uploads in one of two forms, and what is asked beside them."""

import math
import posixpath
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Final
from urllib.parse import quote

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tumbler.contracts.sandbox_control import CompleteSandbox
from tumbler.errors import QuotaExceeded
from tumbler_backends.sandbox.service.e2b.boxes import Boxes
from tumbler_backends.sandbox.service.e2b.faults import GONE, RefusedError, status_and_message
from tumbler_backends.sandbox.service.e2b.filesystem_rpc import absolute
from tumbler_backends.sandbox.service.e2b.users import require_user

__all__ = ["file_routes", "refusal"]

_BINARY: Final = "application/octet-stream"
_PIECE_BYTES: Final = 1 << 16
_MOST_FILES: Final = 10_000
_METADATA: Final = "x-metadata-"
_MIB: Final = 1 << 20


def file_routes(boxes: Boxes) -> list[Route]:
    """Return the routes."""

    def route(path: str, method: str, answer: Callable[[Boxes, Request], Awaitable[Response]]) -> Route:
        async def respond(request: Request) -> Response:
            try:
                return await answer(boxes, request)
            except Exception as error:  # noqa: BLE001  # whatever a backend raises is told to the client
                return refusal(error, request)

        return Route(path, respond, methods=[method])

    return [
        route("/health", "GET", _health),
        route("/files", "GET", _download),
        route("/files", "POST", _upload),
        route("/metrics", "GET", _metrics),
        route("/envs", "GET", _environment),
    ]


def refusal(error: Exception, request: Request) -> Response:
    """Return an error as the answer of an HTTP call."""
    status, message = status_and_message(error)
    body: dict[str, object] = {"code": status, "message": message}
    if status == 502 or message.startswith(GONE):
        body = {"sandboxId": request.headers.get("e2b-sandbox-id", ""), "message": GONE, "code": status}
    return JSONResponse(body, status)


async def _health(boxes: Boxes, request: Request) -> Response:
    await boxes.opened(request)
    return Response(status_code=204)


async def _download(boxes: Boxes, request: Request) -> Response:
    box = await boxes.signed(request, "read")
    require_user(request, box.sandbox)
    path = absolute(box.sandbox, _named(request))
    pieces = box.sandbox.read_stream(path)
    try:
        first = await anext(pieces, b"")  # what is wrong with the file shows here, before the status is sent
    except IsADirectoryError:
        raise RefusedError(400, f"path '{path}' is a directory") from None
    headers = {"Content-Disposition": f"inline; filename*=utf-8''{quote(posixpath.basename(path))}"}
    body = _chained(first, pieces)
    # Many clients name every coding they know: only one who asks for gzip alone means it.
    if request.headers.get("accept-encoding", "").strip() == "gzip":
        return StreamingResponse(_compressed(body), headers={**headers, "Content-Encoding": "gzip"}, media_type=_BINARY)
    return StreamingResponse(body, headers=headers, media_type=_BINARY)


async def _upload(boxes: Boxes, request: Request) -> Response:
    box = await boxes.signed(request, "write")
    require_user(request, box.sandbox)
    kind = request.headers.get("content-type", "")
    if kind.startswith("multipart/form-data"):
        written = await _store_form(box.sandbox, request)
    elif kind.startswith(_BINARY):
        path = absolute(box.sandbox, _named(request))
        await _store(box.sandbox, path, _plain(request, request.stream()))
        written = [path]
    else:
        raise RefusedError(400, f"content type {kind!r} is neither multipart/form-data nor {_BINARY}")
    metadata = {
        name.removeprefix(_METADATA): value for name, value in request.headers.items() if name.startswith(_METADATA)
    }
    more: dict[str, object] = {"metadata": metadata} if metadata else {}
    return JSONResponse([{"name": posixpath.basename(path), "type": "file", "path": path, **more} for path in written])


async def _store_form(sandbox: CompleteSandbox, request: Request) -> list[str]:
    """Write the parts named `file`; Starlette keeps large ones on the server's disk meanwhile."""
    written = []
    async with request.form(max_files=_MOST_FILES) as form:
        for part in form.getlist("file"):
            if not isinstance(part, UploadFile):
                raise RefusedError(400, "the part 'file' is no file")
            name = request.query_params.get("path") or part.filename
            if not name:
                raise RefusedError(400, "neither the query nor the part names a path")
            path = absolute(sandbox, name)
            await _store(sandbox, path, _parts(part))
            written.append(path)
    return written


async def _store(sandbox: CompleteSandbox, path: str, pieces: AsyncIterable[bytes]) -> None:
    try:
        await sandbox.write_stream(path, pieces)
    except IsADirectoryError:
        raise RefusedError(400, f"path '{path}' is a directory") from None
    except QuotaExceeded as error:
        raise RefusedError(507, str(error)) from error


async def _metrics(boxes: Boxes, request: Request) -> Response:
    box = await boxes.opened(request)
    return JSONResponse(await measured(box.sandbox))


async def _environment(boxes: Boxes, request: Request) -> Response:
    return JSONResponse(dict((await boxes.opened(request)).sandbox.spec.env))


async def measured(sandbox: CompleteSandbox) -> dict[str, object]:
    """Return a sandbox's use; what the backend does not know is 0, as clients want numbers."""
    usage, limits = await sandbox.usage(), sandbox.spec.resources
    age = max(time.time() - (await sandbox.info()).created, 1.0)
    return {
        "ts": int(time.time()),
        "cpu_count": max(1, math.ceil(limits.cpus or 1)),
        "cpu_used_pct": round(100 * (usage.cpu_seconds or 0.0) / age, 2),
        "mem_total": limits.memory_bytes or 0,
        "mem_used": usage.memory_bytes or 0,
        "mem_cache": 0,
        "disk_total": limits.disk_bytes or 0,
        "disk_used": usage.disk_bytes or 0,
    }


def _named(request: Request) -> str:
    path = request.query_params.get("path", "")
    if not path:
        raise RefusedError(400, "the query names no path")
    return path


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    if first:
        yield first
    async for piece in rest:
        yield piece


async def _parts(part: UploadFile) -> AsyncGenerator[bytes, None]:
    while piece := await part.read(_PIECE_BYTES):
        yield piece


async def _compressed(pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    packer = zlib.compressobj(level=1, wbits=31)
    async for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()


async def _plain(request: Request, pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield an upload without its coding, in pieces of a bounded size whatever it unpacks to."""
    coding = request.headers.get("content-encoding", "identity")
    if coding not in {"identity", "gzip"}:
        raise RefusedError(400, f"content encoding {coding!r} is not understood, only gzip")
    unpacker = zlib.decompressobj(wbits=31)
    async for piece in pieces:
        rest = piece
        if coding == "identity":
            yield rest
            continue
        while rest:
            try:
                unpacked = unpacker.decompress(rest, _PIECE_BYTES)
            except zlib.error as error:
                raise RefusedError(400, f"the upload is no gzip stream: {error}") from error
            rest = unpacker.unconsumed_tail
            if unpacked:
                yield unpacked
    if coding == "gzip" and not unpacker.eof:
        raise RefusedError(400, "the gzip stream ends too early")
