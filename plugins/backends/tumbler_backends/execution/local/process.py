"""A worker process as its owner sees it: started, asked, and ended, with its log."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tumbler.contracts.execution import Engines, RolloutRequest
from tumbler.contracts.inference import TextTokenizer
from tumbler.errors import RunError
from tumbler.trajectory.record import Trajectory
from tumbler_backends.execution.dispatch import WorkerLost
from tumbler_backends.execution.local.engines import EngineName, engine_handlers
from tumbler_backends.execution.local.peer import Peer, PeerGone
from tumbler_backends.execution.local.worker import GRACE_S

__all__ = ["WorkerProcess"]

# The path comes first, so that the worker finds what its owner finds, however that came to be.
_MAIN = (
    "import json, sys; path, *arguments = json.loads(sys.argv[1]); sys.path[:] = path; "
    "from tumbler_backends.execution.local.worker import main; main(*arguments)"
)
_TAIL_LINES = 20
_TAIL_BYTES = 8192


class WorkerProcess:
    """An `EpisodeWorker` that is a process of this machine."""

    def __init__(
        self,
        index: int,
        *,
        recipe: bytes,
        engines: Engines,
        tokenizers: Mapping[EngineName, TextTokenizer],
        log: Path,
        start_timeout: float,
    ) -> None:
        """Prepare the worker of that place; `recipe` is a pickled `WorkerRecipe`."""
        self._index = index
        self._recipe = recipe
        self._engines = engines
        self._tokenizers = tokenizers
        self._log = log
        self._start_timeout = start_timeout
        self._process: asyncio.subprocess.Process | None = None
        self._peer: Peer | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process and have it open the recipe; raises what the recipe raises there."""
        # Not `asyncio.timeout`: what the recipe raises may be a TimeoutError itself.
        opening = asyncio.ensure_future(self._open())
        try:
            await asyncio.wait([opening], timeout=self._start_timeout)
            if not opening.done():
                raise RunError(
                    f"worker {self._index} was not ready within {self._start_timeout:g} s; raise start_timeout of the "
                    f"execution backend{self._last_words()}"
                )
            await opening
        except BaseException:
            await self.stop()
            await asyncio.gather(opening, return_exceptions=True)
            raise

    async def run(self, request: RolloutRequest) -> Trajectory:
        """Run one episode there; cancelling the call cancels it and waits for its clean-up."""
        trajectory: Trajectory = await self._call("run", request)
        return trajectory

    async def stop(self) -> None:
        """End the connection, on which it cancels its episodes and cleans up, and then the process."""
        if self._peer is not None:
            self._peer.close()
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), GRACE_S)
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
        if self._serving is not None:
            await asyncio.wait([self._serving])

    async def _open(self) -> None:
        await self._spawn()
        await self._call("open", self._recipe, self._tokenizers)

    async def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs, self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _MAIN,
                json.dumps([sys.path, theirs.fileno(), self._index]),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        self._peer = Peer(reader, writer, engine_handlers(self._engines), name=f"process {os.getpid()}")
        self._serving = asyncio.ensure_future(self._peer.serve())

    async def _call(self, method: str, *arguments: object) -> Any:  # noqa: ANN401  # as the worker's handler returns
        if self._peer is None:
            raise WorkerLost(f"worker {self._index} is not started")
        try:
            return await self._peer.call(method, *arguments)
        except PeerGone as error:
            raise WorkerLost(f"worker {self._index} {await self._ended()}{self._last_words()}") from error

    async def _ended(self) -> str:
        """Say how the process came to its end."""
        process = self._process
        if process is None:
            return "never ran"
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 5.0)
        code = process.returncode
        if code is None:
            return f"(process {process.pid}) has closed its connection"
        return f"(process {process.pid}) {f'was killed by signal {-code}' if code < 0 else f'exited with {code}'}"

    def _last_words(self) -> str:
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, self._log.stat().st_size - _TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
        except OSError:
            return ""
        return "; its log ends with:\n  " + "\n  ".join(lines) if lines else "; its log is empty"
