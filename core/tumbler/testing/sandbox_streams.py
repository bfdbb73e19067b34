"""The part of the complete sandbox suite about streams of files and about watching folders."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from tumbler.contracts.sandbox_control import CompleteSandbox, ManagedBackend
from tumbler.contracts.sandbox_files import FileEvent
from tumbler.errors import CapabilityError
from tumbler.testing.sandbox_fixtures import LONG_S, CompleteFixtures, bounded_memory, eventually

__all__ = ["StreamTests", "WatchTests"]

_PIECE = bytes(range(256)) * (1 << 12)
_PIECES = 128
_MEMORY = 80 << 20


@pytest.mark.asyncio(loop_scope="class")
class StreamTests(CompleteFixtures):
    """Files in pieces: any size, in one step, and never half."""

    async def test_a_large_file_is_streamed_with_bounded_memory(self, box: CompleteSandbox) -> None:
        """128 MiB in and out again; what is allowed leaves room for what the allocator keeps."""
        digest = hashlib.sha256()
        for _ in range(_PIECES):
            digest.update(_PIECE)

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(_PIECES):
                yield _PIECE

        back = hashlib.sha256()
        async with bounded_memory(_MEMORY):
            await box.write_stream("new/folder/large", pieces())
            async for piece in box.read_stream("new/folder/large"):
                back.update(piece)
        assert (await box.exec("sha256sum <new/folder/large", timeout=LONG_S)).stdout.split()[0] == (
            digest.hexdigest().encode()
        )
        assert back.hexdigest() == digest.hexdigest()

    async def test_a_stream_starts_where_it_is_asked_to(self, box: CompleteSandbox) -> None:
        """Past the end there is nothing."""
        await box.write("file", b"0123456789")
        for offset, expected in ((0, b"0123456789"), (4, b"456789"), (10, b""), (99, b"")):
            assert await _joined(box.read_stream("file", offset=offset)) == expected

    async def test_a_streamed_file_appears_only_when_it_is_whole(self, box: CompleteSandbox) -> None:
        """Until then the old one is there, and no other name."""
        await box.write("t/file", b"old")

        async def pieces() -> AsyncIterator[bytes]:
            yield bytes(1 << 20)
            assert await box.read("t/file") == b"old"
            yield b"end"

        await box.write_stream("t/file", pieces(), mode=0o755)
        entry = await box.stat("t/file")
        assert (entry.size, entry.mode) == ((1 << 20) + 3, 0o755)
        assert [entry.name for entry in await box.list("t")] == ["file"]

    async def test_a_stream_that_breaks_off_leaves_the_old_file(self, box: CompleteSandbox) -> None:
        """And nothing else."""
        await box.write("t/file", b"old")

        async def pieces() -> AsyncIterator[bytes]:
            yield bytes(1 << 20)
            raise LookupError("the source broke off")

        with pytest.raises(LookupError, match="broke off"):
            await box.write_stream("t/file", pieces())
        assert await box.read("t/file") == b"old"
        assert [entry.name for entry in await box.list("t")] == ["file"]

    async def test_an_empty_stream_is_an_empty_file(self, box: CompleteSandbox) -> None:
        """Pieces may be empty, too."""

        async def pieces() -> AsyncIterator[bytes]:
            yield b""

        await box.write_stream("file", pieces())
        assert await box.read("file") == b""

    async def test_a_reader_may_stop_early(self, box: CompleteSandbox) -> None:
        """The sandbox stays usable."""
        await box.exec("head -c 5000000 /dev/zero >file")
        async for piece in box.read_stream("file"):
            assert piece
            break
        assert (await box.exec("echo on")).stdout == b"on\n"

    async def test_errors_of_streams_are_builtin(self, box: CompleteSandbox) -> None:
        """Before a byte is moved; a pipe is no file, and nobody waits for its writer."""
        await box.exec("mkdir folder; echo >file; mkfifo pipe")
        for path, error in (("missing", FileNotFoundError), ("folder", IsADirectoryError), ("pipe", OSError)):
            with pytest.raises(error):
                await _joined(box.read_stream(path))

        async def pieces() -> AsyncIterator[bytes]:
            yield b"x"

        with pytest.raises(IsADirectoryError):
            await box.write_stream("folder", pieces())
        with pytest.raises(NotADirectoryError):
            await box.write_stream("file/below", pieces())


@pytest.mark.asyncio(loop_scope="class")
class WatchTests(CompleteFixtures):
    """Changes below a folder, or a refusal where they cannot be seen."""

    async def test_changes_are_told(self, managed: ManagedBackend, box: CompleteSandbox) -> None:
        """Of each kind."""
        await box.mkdir("t/sub")
        if not managed.capabilities.watch:
            with pytest.raises(CapabilityError):
                await anext(aiter(box.watch("t")))
            return
        base = (await box.stat("t")).path
        watching = await _Watching.start(box, "t")
        await box.exec(
            "cd t; echo >file; echo >>file; chmod 600 file; mv file moved; rm moved; echo >sub/deeper; echo >z"
        )
        await eventually(watching.saw("create", f"{base}/z"), "the last change should be told")
        kinds = {(event.kind, event.path.removeprefix(f"{base}/")) for event in watching.events}
        assert {("create", "file"), ("write", "file"), ("chmod", "file"), ("remove", "moved")} <= kinds
        assert kinds & {("rename", "file"), ("rename", "moved")}
        assert not any(path.startswith("sub/") for _, path in kinds)
        await watching.stop()

    async def test_a_recursive_watch_sees_below(self, managed: ManagedBackend, box: CompleteSandbox) -> None:
        """Also in folders that are made meanwhile."""
        await box.mkdir("t/sub")
        if not managed.capabilities.watch:
            with pytest.raises(CapabilityError):
                await anext(aiter(box.watch("t", recursive=True)))
            return
        base = (await box.stat("t")).path
        watching = await _Watching.start(box, "t", recursive=True)
        await box.exec("echo >t/sub/file; mkdir -p t/new")
        await eventually(watching.saw("create", f"{base}/sub/file"), "the change below should be told")
        await eventually(watching.saw("create", f"{base}/new"), "the new folder should be told")

        async def told() -> bool:
            await box.exec("echo >t/new/file")
            return any(event.path == f"{base}/new/file" for event in watching.events)

        await eventually(told, "changes in the new folder should be told")
        await watching.stop()


class _Watching:
    """Collects events in a task of its own."""

    def __init__(self, stream: AsyncIterator[FileEvent]) -> None:
        self.events: list[FileEvent] = []
        self._task = asyncio.create_task(self._collect(stream))

    @classmethod
    async def start(cls, box: CompleteSandbox, path: str, *, recursive: bool = False) -> "_Watching":
        """Watch, and return once the watch is in force."""
        watching = cls(box.watch(path, recursive=recursive))

        async def sees() -> bool:
            if watching._task.done():
                watching._task.result()
            await box.exec(f"echo >{path}/first; rm {path}/first")
            return bool(watching.events)

        await eventually(sees, "a change should be told")
        return watching

    def saw(self, kind: str, path: str) -> "_Saw":
        return _Saw(self.events, kind, path)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _collect(self, stream: AsyncIterator[FileEvent]) -> None:
        async for event in stream:
            self.events.append(event)


class _Saw:
    """Tells whether an event has come."""

    def __init__(self, events: list[FileEvent], kind: str, path: str) -> None:
        self._events, self._kind, self._path = events, kind, path

    async def __call__(self) -> bool:
        return any((event.kind, event.path) == (self._kind, self._path) for event in self._events)


async def _joined(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])
