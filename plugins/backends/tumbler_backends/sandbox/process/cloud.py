"""A box as what the shared session needs: a place to start programs in."""

from collections.abc import Mapping, Sequence

from tumbler_backends.sandbox.posix.spawning import SpawnRecord
from tumbler_backends.sandbox.process.box import Box, BoxProgram
from tumbler_backends.sandbox.process.spawned import start_recorded

__all__ = ["BoxCloud"]


class BoxCloud:
    """Starts programs for sessions; see `tumbler_backends.sandbox.posix.cloud.Cloud`."""

    def __init__(self, box: Box) -> None:
        """Serve a box."""
        self._box = box

    @property
    def workdir(self) -> str:
        """Return the working directory as its programs see it."""
        return str(self._box.files.locate("."))

    def require(self) -> None:
        """Raise `SandboxDied` once the sandbox is gone."""
        self._box.require()

    async def start(
        self, words: Sequence[str], *, env: Mapping[str, str], stdin: bool, record: SpawnRecord
    ) -> "BoxCloudProcess":
        """Start a program in the working directory."""
        return BoxCloudProcess(start_recorded(self._box, record, words, cwd=None, env=env, stdin=stdin))


class BoxCloudProcess:
    """One of them."""

    def __init__(self, started: BoxProgram | None) -> None:
        """Take over what was started."""
        self._started = started

    @property
    def pid(self) -> int | None:
        """Return the process id on this machine."""
        return self._started.program.pid if self._started is not None else None

    async def write(self, data: bytes) -> None:
        """Send bytes to stdin."""
        stdin = self._started.program.stdin if self._started is not None else None
        if stdin is None:
            raise BrokenPipeError("the program has no stdin")
        await stdin.write(data)

    async def close_stdin(self) -> None:
        """End stdin."""
        stdin = self._started.program.stdin if self._started is not None else None
        if stdin is not None and not stdin.closed:
            await stdin.drained()
            stdin.close()

    async def abandon(self) -> None:
        """Stop reading what it says once it has ended; until then it may say more."""
        if self._started is not None and self._started.program.exited.done():
            self._started.forget()
