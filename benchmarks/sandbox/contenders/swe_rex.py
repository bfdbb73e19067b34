"""SWE-ReX's local runtime as a contender; run by the Python of an environment that has `swe-rex`.

The runtime isolates nothing and runs in this process, without its HTTP server: the best case for it.
"""

import asyncio
import logging
import tempfile
import time
from pathlib import Path

from swerex.runtime.abstract import (
    BashAction,
    Command,
    CreateBashSessionRequest,
    ReadFileRequest,
    WriteFileRequest,
)
from swerex.runtime.local import LocalRuntime
from worker import MEBIBYTE, serve

logging.disable(logging.CRITICAL)


class SweRex:
    """The measures, each returning seconds."""

    def __init__(self) -> None:
        """Start the runtime that all measures but `cycle` share."""
        self._loop = asyncio.new_event_loop()
        self._runtime = LocalRuntime()
        self._loop.run_until_complete(self._runtime.create_session(CreateBashSessionRequest(session="bench")))
        self._folder = tempfile.TemporaryDirectory()

    def cycle(self, count: int) -> float:
        """A runtime with nothing of its own, one command, and its end."""

        async def run() -> None:
            for _ in range(count):
                runtime = LocalRuntime()
                await runtime.execute(Command(command=["true"]))
                await runtime.close()

        return self._timed(run())

    def exec(self, count: int) -> float:
        """Commands one after another."""

        async def run() -> None:
            for _ in range(count):
                reply = await self._runtime.execute(Command(command=["true"]))
                assert reply.exit_code == 0

        return self._timed(run())

    def session(self, count: int) -> float:
        """Commands in one shell session, one after another."""

        async def run() -> None:
            for number in range(count):
                reply = await self._runtime.run_in_session(BashAction(command=f"echo {number}", session="bench"))
                assert reply.output.strip() == str(number), reply

        return self._timed(run())

    def files(self, count: int) -> float:
        """A MiB of text written and read back, so many times."""
        content, path = "x" * MEBIBYTE, str(Path(self._folder.name, "file"))

        async def run() -> None:
            for _ in range(count):
                await self._runtime.write_file(WriteFileRequest(path=path, content=content))
                assert (await self._runtime.read_file(ReadFileRequest(path=path))).content == content

        return self._timed(run())

    def close(self) -> None:
        """End the runtime."""
        self._loop.run_until_complete(self._runtime.close())
        self._folder.cleanup()

    def _timed(self, work) -> float:  # noqa: ANN001  # the coroutine of one measure
        began = time.perf_counter()
        self._loop.run_until_complete(work)
        return time.perf_counter() - began


if __name__ == "__main__":
    serve(SweRex)
