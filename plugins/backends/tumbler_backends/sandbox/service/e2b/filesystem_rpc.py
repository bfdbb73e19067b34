"""The RPC service filesystem.Filesystem."""

import contextlib
import posixpath
from collections.abc import AsyncGenerator
from typing import Final

from starlette.requests import Request
from starlette.routing import Route

from tumbler.contracts.sandbox_control import CompleteSandbox
from tumbler.contracts.sandbox_files import FileEvent
from tumbler_backends.sandbox.service.e2b.boxes import Box, Boxes
from tumbler_backends.sandbox.service.e2b.entries import entry_message, event_message
from tumbler_backends.sandbox.service.e2b.faults import RpcError
from tumbler_backends.sandbox.service.e2b.framing import Json, deadline_of
from tumbler_backends.sandbox.service.e2b.messages import flag, number, text
from tumbler_backends.sandbox.service.e2b.services import keepalive_of, stream_route, unary_route
from tumbler_backends.sandbox.service.e2b.watchers import watched

__all__ = ["absolute", "filesystem_routes"]

_DEEPEST: Final = 64


def filesystem_routes(boxes: Boxes) -> list[Route]:
    """Return the routes."""
    service = "/filesystem.Filesystem"
    return [
        unary_route(boxes, f"{service}/Stat", _stat),
        unary_route(boxes, f"{service}/ListDir", _list),
        unary_route(boxes, f"{service}/MakeDir", _make),
        unary_route(boxes, f"{service}/Move", _move),
        unary_route(boxes, f"{service}/Remove", _remove),
        stream_route(boxes, f"{service}/WatchDir", _watch),
        unary_route(boxes, f"{service}/CreateWatcher", _create_watcher),
        unary_route(boxes, f"{service}/GetWatcherEvents", _watcher_events),
        unary_route(boxes, f"{service}/RemoveWatcher", _remove_watcher),
    ]


def absolute(sandbox: CompleteSandbox, path: str) -> str:
    """Return a client's path as an absolute one; its home is the sandbox's working directory."""
    if path == "~" or path.startswith("~/"):
        path = path[2:]
    return posixpath.normpath(posixpath.join(sandbox.spec.workdir, path))


async def _stat(box: Box, message: Json) -> Json:
    return {"entry": entry_message(await box.sandbox.stat(_path(box, message)))}


async def _list(box: Box, message: Json) -> Json:
    depth = min(number(message, "depth") or 1, _DEEPEST)
    path = _path(box, message)
    try:
        entries = await box.sandbox.list(path, depth=depth)
    except NotADirectoryError as error:
        raise RpcError("invalid_argument", f"path is not a directory: {path}") from error
    return {"entries": [entry_message(entry) for entry in entries]}


async def _make(box: Box, message: Json) -> Json:
    path = _path(box, message)
    try:
        await box.sandbox.mkdir(path, parents=True, exist_ok=False)
    except FileExistsError:
        entry = await box.sandbox.stat(path)
        if entry.kind == "file":
            raise RpcError("invalid_argument", f"path already exists but it is not a directory: {path}") from None
        raise
    return {"entry": entry_message(await box.sandbox.stat(path))}


async def _move(box: Box, message: Json) -> Json:
    destination = _path(box, message, "destination")
    await box.sandbox.move(_path(box, message, "source"), destination)
    return {"entry": entry_message(await box.sandbox.stat(destination))}


async def _remove(box: Box, message: Json) -> Json:
    with contextlib.suppress(FileNotFoundError):  # nothing to do, as in envd
        await box.sandbox.remove(_path(box, message), recursive=True)
    return {}


async def _watch(box: Box, message: Json, request: Request) -> AsyncGenerator[Json, None]:
    folder = await _folder(box, message)
    events = box.sandbox.watch(folder, recursive=flag(message, "recursive"))
    entries = flag(message, "includeEntry")
    first = True
    stream = watched(events, keepalive=keepalive_of(request), deadline=deadline_of(request.headers))
    async with contextlib.aclosing(stream):
        async for event in stream:
            if event is not None:
                yield {"filesystem": await _told(box, event, folder, entries)}
            else:
                yield {"start": {}} if first else {"keepalive": {}}
            first = False


async def _create_watcher(box: Box, message: Json) -> Json:
    folder = await _folder(box, message)
    events = box.sandbox.watch(folder, recursive=flag(message, "recursive"))
    return {"watcherId": await box.watchers.create(folder, flag(message, "includeEntry"), events)}


async def _watcher_events(box: Box, message: Json) -> Json:
    watcher, events = box.watchers.fetch(text(message, "watcherId"))
    return {"events": [await _told(box, event, watcher.folder, watcher.entries) for event in events]}


async def _remove_watcher(box: Box, message: Json) -> Json:
    await box.watchers.remove(text(message, "watcherId"))
    return {}


async def _folder(box: Box, message: Json) -> str:
    folder = _path(box, message)
    if (await box.sandbox.stat(folder)).kind == "file":
        raise RpcError("invalid_argument", f"path is not a directory: {folder}")
    return folder


async def _told(box: Box, event: FileEvent, folder: str, entries: bool) -> Json:
    message = event_message(event, folder)
    if entries and event.kind not in {"remove", "rename"}:
        with contextlib.suppress(OSError):  # gone meanwhile
            message["entry"] = entry_message(await box.sandbox.stat(event.path))
    return message


def _path(box: Box, message: Json, name: str = "path") -> str:
    path = text(message, name)
    if not path and name != "path":
        raise RpcError("invalid_argument", f"{name} is empty")
    return absolute(box.sandbox, path)
