"""The files of a remote sandbox; contents travel as raw bytes, in pieces."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Final

from pydantic import TypeAdapter

from tumbler.contracts.sandbox_files import FileEntry, FileEvent
from tumbler_backends.sandbox.remote.link import Query
from tumbler_backends.sandbox.remote.scope import Scope
from tumbler_backends.sandbox.wire.answers import EntryAnswer, EventAnswer
from tumbler_backends.sandbox.wire.requests import MkdirBody, MoveBody

__all__ = ["RemoteFiles"]

_CONTENT: Final = "/files/content"
_SILENCE_S: Final = 60.0
_TREE_S: Final = 120.0
"""Listing or removing a large tree takes time."""
_BYTES_PER_SECOND: Final = 1 << 20
"""What a connection is trusted to carry, for the bound of a transfer."""
_ENTRIES: Final = TypeAdapter(tuple[EntryAnswer, ...])


class RemoteFiles:
    """What a sandbox does with files; see `tumbler.contracts.sandbox_files.FilesSandbox`."""

    _scope: Scope

    async def write(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file, parents made."""
        seconds = len(content) / _BYTES_PER_SECOND
        query: Query = {"path": path, "mode": mode}
        await self._scope.ask("PUT", _CONTENT, body=content, query=query, seconds=seconds, repeat=True)

    async def read(self, path: str, *, limit: int = 10 << 20) -> bytes:
        """Read a file of at most `limit` bytes."""
        seconds = limit / _BYTES_PER_SECOND
        query: Query = {"path": path, "limit": limit}
        return (await self._scope.ask("GET", _CONTENT, query=query, seconds=seconds, repeat=True)).content

    async def list(self, path: str = ".", *, depth: int = 1) -> Sequence[FileEntry]:
        """Return what a folder holds, sorted by path."""
        query: Query = {"path": path, "depth": depth}
        response = await self._scope.ask("GET", "/files", query=query, seconds=_TREE_S, repeat=True)
        return [each.value() for each in _ENTRIES.validate_json(response.content)]

    async def stat(self, path: str) -> FileEntry:
        """Describe one entry."""
        response = await self._scope.ask("GET", "/files/stat", query={"path": path}, repeat=True)
        return EntryAnswer.model_validate_json(response.content).value()

    async def mkdir(self, path: str, *, parents: bool = True, exist_ok: bool = True) -> None:
        """Make a folder."""
        body = MkdirBody(path=path, parents=parents, exist_ok=exist_ok)
        await self._scope.ask("POST", "/files/mkdir", body=body, repeat=exist_ok)

    async def move(self, source: str, destination: str) -> None:
        """Rename a file or folder."""
        await self._scope.ask("POST", "/files/move", body=MoveBody(source=source, destination=destination))

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file, a link or a folder."""
        await self._scope.ask("DELETE", "/files", query={"path": path, "recursive": recursive}, seconds=_TREE_S)

    async def read_stream(self, path: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield a file in pieces."""
        query: Query = {"path": path, "offset": offset}
        async with self._scope.stream(_CONTENT, query, silence=_SILENCE_S) as pieces:
            async for piece in pieces:
                yield piece

    async def write_stream(self, path: str, pieces: AsyncIterable[bytes], *, mode: int = 0o644) -> None:
        """Write a file from pieces; it appears only when it is whole."""
        query: Query = {"path": path, "mode": mode}
        await self._scope.ask("PUT", _CONTENT, body=pieces, query=query, seconds=_SILENCE_S)

    async def watch(self, path: str = ".", *, recursive: bool = False) -> AsyncIterator[FileEvent]:
        """Yield the changes below a folder until the caller stops."""
        query: Query = {"path": path, "recursive": recursive}
        async with self._scope.stream("/files/watch", query, silence=_SILENCE_S) as pieces:
            rest = b""
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                for line in filter(None, lines):
                    yield EventAnswer.model_validate_json(line).value()
