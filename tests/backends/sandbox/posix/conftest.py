import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest

from tumbler.contracts.sandbox_process import ProcessExit
from tumbler_backends.sandbox.posix.output import OutputRing
from tumbler_backends.sandbox.posix.spawner import Spawner
from tumbler_backends.sandbox.posix.spawning import SpawnRecord


class LocalProcess:
    """A process of this machine, read into a record."""

    def __init__(self, process: asyncio.subprocess.Process, record: SpawnRecord) -> None:
        self._process = process
        self.task = asyncio.create_task(self._follow(record))

    @property
    def pid(self) -> int | None:
        return self._process.pid

    async def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        try:
            await self._process.stdin.drain()
        except ConnectionResetError as error:
            raise BrokenPipeError from error

    async def close_stdin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def abandon(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def end(self) -> None:
        await self.abandon()
        if self._process.returncode is None:
            self._process.kill()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            await asyncio.wait_for(stream.read(), 5)
        await self._process.wait()

    async def _follow(self, record: SpawnRecord) -> None:
        reading = [
            asyncio.create_task(_read(self._process.stdout, record.stdout)),
            asyncio.create_task(_read(self._process.stderr, record.stderr)),
        ]
        try:
            code = await self._process.wait()
            await asyncio.wait(reading, timeout=1.0)
            record.finish(ProcessExit(exit_code=128 - code if code < 0 else code))
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)


async def _read(stream: asyncio.StreamReader | None, ring: OutputRing) -> None:
    assert stream is not None
    while piece := await stream.read(1 << 16):
        ring.feed(piece)
    ring.end()


class LocalCloud:
    """This machine, as a cloud that offers processes and nothing else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[LocalProcess] = []

    @property
    def workdir(self) -> str:
        return str(self._folder)

    def require(self) -> None:
        return

    async def start(
        self, words: Sequence[str], *, env: Mapping[str, str], stdin: bool, record: SpawnRecord
    ) -> LocalProcess:
        process = await asyncio.create_subprocess_exec(
            *words,
            cwd=self._folder,
            env={"PATH": os.environ["PATH"], **env},
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        started = LocalProcess(process, record)
        self._processes.append(started)
        return started

    async def close(self) -> None:
        for process in self._processes:
            await process.end()


@pytest.fixture
async def spawner(tmp_path: Path) -> AsyncIterator[Spawner]:
    """Yield what starts processes on this machine, as if it were a cloud's sandbox."""
    cloud = LocalCloud(tmp_path)
    yield Spawner(cloud, grace=0.2)
    await cloud.close()
