"""ROCK's rocklet, the agent inside its sandboxes, as a contender; run by the Python of an environment with `rl-rock`.

The rocklet isolates nothing by itself and runs in this process, without its HTTP server and the container
around it: the best case for it.
"""

import asyncio
import logging
import os
import tempfile
import time
from pathlib import Path

# Logging each action to the terminal would slow it down.
_LOGS = tempfile.TemporaryDirectory(prefix="rocklet-logs-")
os.environ.update(ROCK_LOGGING_PATH=_LOGS.name, ROCK_LOGGING_LEVEL="ERROR")

from rock.admin.proto.request import (  # noqa: E402
    SandboxBashAction,
    SandboxCommand,
    SandboxCreateBashSessionRequest,
    SandboxReadFileRequest,
    SandboxWriteFileRequest,
)
from rock.rocklet.rocklet import Rocklet  # noqa: E402
from worker import MEBIBYTE, serve  # noqa: E402

logging.disable(logging.CRITICAL)


class RockletContender:
    """The measures, each returning seconds."""

    def __init__(self) -> None:
        """Start the rocklet that all measures but `cycle` share."""
        self._loop = asyncio.new_event_loop()
        self._runtime = Rocklet.create()
        self._loop.run_until_complete(
            self._runtime.create_session(SandboxCreateBashSessionRequest(session="bench", sandbox_id="bench"))
        )
        self._folder = tempfile.TemporaryDirectory()

    def cycle(self, count: int) -> float:
        """A rocklet with nothing of its own, one command, and its end."""

        async def run() -> None:
            for _ in range(count):
                runtime = Rocklet.create()
                await runtime.execute(SandboxCommand(command=["true"], sandbox_id="bench"))
                await runtime.close()

        return self._timed(run())

    def exec(self, count: int) -> float:
        """Commands one after another."""

        async def run() -> None:
            for _ in range(count):
                reply = await self._runtime.execute(SandboxCommand(command=["true"], sandbox_id="bench"))
                assert reply.exit_code == 0

        return self._timed(run())

    def session(self, count: int) -> float:
        """Commands in one shell session, one after another."""

        async def run() -> None:
            for number in range(count):
                action = SandboxBashAction(command=f"echo {number}", session="bench", sandbox_id="bench")
                reply = await self._runtime.run_in_session(action)
                assert reply.output.strip() == str(number), reply

        return self._timed(run())

    def files(self, count: int) -> float:
        """A MiB of text written and read back, so many times."""
        content, path = "x" * MEBIBYTE, str(Path(self._folder.name, "file"))

        async def run() -> None:
            for _ in range(count):
                await self._runtime.write_file(SandboxWriteFileRequest(path=path, content=content, sandbox_id="bench"))
                assert (
                    await self._runtime.read_file(SandboxReadFileRequest(path=path, sandbox_id="bench"))
                ).content == content

        return self._timed(run())

    def close(self) -> None:
        """End the rocklet."""
        self._loop.run_until_complete(self._runtime.close())
        self._folder.cleanup()
        _LOGS.cleanup()

    def _timed(self, work) -> float:  # noqa: ANN001  # the coroutine of one measure
        began = time.perf_counter()
        self._loop.run_until_complete(work)
        return time.perf_counter() - began


if __name__ == "__main__":
    serve(RockletContender)
