import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from tumbler_backends.sandbox.posix.files import PosixFiles
from tumbler_backends.sandbox.posix.spawner import Spawner

LONG_S = 300


async def test_a_write_that_is_cut_off_leaves_the_old_file(spawner: Spawner, tmp_path: Path) -> None:
    files = PosixFiles(spawner)
    await files.write("file", b"old")

    async def pieces() -> AsyncIterator[bytes]:
        yield b"half"
        await asyncio.sleep(LONG_S)

    task = asyncio.create_task(files.write_stream("file", pieces()))
    while len(list(tmp_path.iterdir())) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    assert await files.read("file") == b"old"
