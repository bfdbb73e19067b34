"""One process inside a sandbox, started through the agent there."""

import asyncio
import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from modal_server.streams import StoredStream

_START_S = 30.0


class Gone(Exception):
    """The sandbox ended before the process did."""


class Exec:
    """A running or ended process: its streams, its stdin and its end."""

    def __init__(self, stdin: int, stdout: int, stderr: int) -> None:
        os.set_blocking(stdin, False)
        self.stdout = StoredStream(stdout)
        self.stderr = StoredStream(stderr)
        self.code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.code.add_done_callback(lambda future: future.exception())
        self.written = 0
        self._stdin = stdin
        self._turn = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    @classmethod
    async def start(cls, folder: Path, words: Sequence[str], cwd: str, env: Mapping[str, str]) -> "Exec":
        """Ask the agent behind `folder`/socket for a process."""
        inner_in, outer_in = os.pipe2(os.O_CLOEXEC)
        outer_out, inner_out = os.pipe2(os.O_CLOEXEC)
        outer_err, inner_err = os.pipe2(os.O_CLOEXEC)
        started = cls(outer_in, outer_out, outer_err)
        try:
            await asyncio.wait_for(
                started._ask(
                    folder, {"words": list(words), "folder": cwd, "env": dict(env)}, inner_in, inner_out, inner_err
                ),
                _START_S,
            )
        except BaseException:
            started.close()
            raise
        finally:
            for descriptor in (inner_in, inner_out, inner_err):
                os.close(descriptor)
        return started

    async def write(self, offset: int, data: bytes, *, eof: bool) -> None:
        """Take stdin from byte `offset` on; what came before, by an attempt that was repeated, is left out."""
        async with self._turn:
            rest = memoryview(data)[max(0, self.written - offset) :]
            while rest and self._stdin >= 0:
                try:
                    count = os.write(self._stdin, rest)
                except BlockingIOError:
                    await self._until_room()
                    continue
                except BrokenPipeError:
                    self.close_stdin()
                    break
                self.written += count
                rest = rest[count:]
            if eof:
                self.close_stdin()
            if rest:
                raise BrokenPipeError("nobody reads the process's stdin")

    @property
    def stdin_closed(self) -> bool:
        return self._stdin < 0

    def close_stdin(self) -> None:
        if self._stdin >= 0:
            asyncio.get_running_loop().remove_writer(self._stdin)
            os.close(self._stdin)
            self._stdin = -1

    def kill(self) -> None:
        """Kill its process group."""
        if self._writer is not None and not self.code.done():
            self._writer.write(b"k")

    def close(self) -> None:
        """Let go of everything: the sandbox is gone."""
        if not self.code.done():
            self.code.set_exception(Gone())
        if self._watch is not None:
            self._watch.cancel()
        if self._writer is not None:
            self._writer.close()
        self.close_stdin()
        self.stdout.close()
        self.stderr.close()

    async def _ask(self, folder: Path, wanted: dict[str, object], *descriptors: int) -> None:
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # The path of a socket may be no longer than 107 bytes, which a test's folder is.
            await asyncio.get_running_loop().sock_connect(connection, f"/proc/self/fd/{place}/socket")
        finally:
            os.close(place)
        description = json.dumps(wanted).encode()
        socket.send_fds(connection, [len(description).to_bytes(4, "big")], descriptors)
        reader, self._writer = await asyncio.open_unix_connection(sock=connection)
        self._writer.write(description)
        answer = json.loads(await reader.readline() or b'{"error": "the agent went away"}')
        if "error" in answer:
            raise ChildProcessError(answer["error"])
        self._watch = asyncio.create_task(self._listen(reader))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        line = await reader.readline()
        if line and not self.code.done():
            self.code.set_result(json.loads(line)["code"])
            self.close_stdin()
        elif not self.code.done():
            self.code.set_exception(Gone())
        if self._writer is not None:
            self._writer.close()

    async def _until_room(self) -> None:
        loop = asyncio.get_running_loop()
        room: asyncio.Future[None] = loop.create_future()
        loop.add_writer(self._stdin, lambda: room.done() or room.set_result(None))
        try:
            await asyncio.wait((room, self.code), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._stdin >= 0:
                loop.remove_writer(self._stdin)
