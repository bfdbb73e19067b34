"""Routes of files: raw bodies for contents, of any size."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from tumbler.contracts.sandbox_files import FileEvent
from tumbler_backends.sandbox.service.desk import Box
from tumbler_backends.sandbox.service.failures import PROBLEMS
from tumbler_backends.sandbox.service.routes.paths import FilePath
from tumbler_backends.sandbox.service.streaming import OCTETS, begin
from tumbler_backends.sandbox.wire.answers import EntryAnswer, EventAnswer
from tumbler_backends.sandbox.wire.requests import MkdirBody, MoveBody

__all__ = ["router"]

router = APIRouter(tags=["files"], responses=PROBLEMS)

_BINARY: Final[dict[str, object]] = {OCTETS: {"schema": {"type": "string", "format": "binary"}}}
_CONTENT: Final[dict[int | str, dict[str, object]]] = {200: {"content": _BINARY, "description": "The file."}}
_LINES: Final = "application/x-ndjson"
_EVENTS: Final[dict[int | str, dict[str, object]]] = {
    200: {
        "content": {_LINES: {"schema": {"type": "string"}}},
        "description": "One event a line; empty lines are signs of life.",
    }
}
_UPLOAD: Final[dict[str, object]] = {"requestBody": {"content": _BINARY, "required": True}}
_SIGN_OF_LIFE_S: Final = 10.0


@router.get("/sandboxes/{sandbox}/files")
async def listing(path: FilePath, box: Box, depth: Annotated[int, Query(ge=1, le=1000)] = 1) -> list[EntryAnswer]:
    """List a folder, sorted by path; depth 1 is the folder's own entries."""
    return [EntryAnswer.model_validate(entry) for entry in await box.sandbox.list(path, depth=depth)]


@router.get("/sandboxes/{sandbox}/files/stat")
async def stat(path: FilePath, box: Box) -> EntryAnswer:
    """Describe one entry; a link is not followed."""
    return EntryAnswer.model_validate(await box.sandbox.stat(path))


@router.get("/sandboxes/{sandbox}/files/content", response_class=Response, responses=_CONTENT)
async def read(
    path: FilePath,
    box: Box,
    offset: Annotated[int, Query(ge=0, le=1 << 60, description="The first byte that is wanted.")] = 0,
    limit: Annotated[
        int | None, Query(ge=0, le=1 << 60, description="Refuse a larger file with 413, and send a smaller one whole.")
    ] = None,
) -> Response:
    """Return a file's content."""
    if limit is not None:
        return Response(await box.sandbox.read(path, limit=limit), media_type=OCTETS)
    return StreamingResponse(await begin(box.sandbox.read_stream(path, offset=offset)), media_type=OCTETS)


@router.put("/sandboxes/{sandbox}/files/content", status_code=204, response_class=Response, openapi_extra=_UPLOAD)
async def write(
    path: FilePath,
    box: Box,
    request: Request,
    mode: Annotated[int, Query(ge=0, le=0o7777, description="Permission bits.")] = 0o644,
) -> None:
    """Write the body to a file, parents made; the file appears only when it is whole."""
    await box.sandbox.write_stream(path, request.stream(), mode=mode)


@router.delete("/sandboxes/{sandbox}/files", status_code=204, response_class=Response)
async def remove(path: FilePath, box: Box, recursive: bool = False) -> None:
    """Remove a file, a link or an empty folder; with `recursive`, a folder with all in it."""
    await box.sandbox.remove(path, recursive=recursive)


@router.post("/sandboxes/{sandbox}/files/mkdir", status_code=204, response_class=Response)
async def mkdir(body: MkdirBody, box: Box) -> None:
    """Make a folder."""
    await box.sandbox.mkdir(body.path, parents=body.parents, exist_ok=body.exist_ok)


@router.post("/sandboxes/{sandbox}/files/move", status_code=204, response_class=Response)
async def move(body: MoveBody, box: Box) -> None:
    """Rename a file or folder; a file at the destination is replaced."""
    await box.sandbox.move(body.source, body.destination)


@router.get("/sandboxes/{sandbox}/files/watch", response_class=StreamingResponse, responses=_EVENTS)
async def watch(path: FilePath, box: Box, recursive: bool = False) -> StreamingResponse:
    """Send the changes below a folder, one JSON object a line, until the client goes."""
    events = box.sandbox.watch(path, recursive=recursive)
    first = asyncio.ensure_future(anext(events))
    await asyncio.wait({first}, timeout=0.1)  # a folder that cannot be watched is an answer of its own
    if first.done() and first.exception() is not None:
        first.result()
    return StreamingResponse(_lines(first, events), media_type=_LINES)


async def _lines(coming: "asyncio.Future[FileEvent]", events: AsyncIterator[FileEvent]) -> AsyncIterator[bytes]:
    try:
        yield b"\n"
        while True:
            await asyncio.wait({coming}, timeout=_SIGN_OF_LIFE_S)
            if not coming.done():
                yield b"\n"
                continue
            yield EventAnswer.model_validate(coming.result()).model_dump_json().encode() + b"\n"
            coming = asyncio.ensure_future(anext(events))
    except StopAsyncIteration:
        return
    finally:
        coming.cancel()
        with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
            await asyncio.wait({coming})
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()
