"""Start processes in a cloud's sandbox: listed ones for callers, others for this package; knows no cloud."""

import asyncio
import errno
import posixpath
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from tumbler.contracts.sandbox_process import ProcessExit, ProcessInfo, TerminalSize
from tumbler.errors import CapabilityError, SandboxError, SandboxUnavailable
from tumbler_backends.sandbox.posix.cloud import Cloud
from tumbler_backends.sandbox.posix.launched import LaunchedProcess, LaunchRecord
from tumbler_backends.sandbox.posix.spawning import SpawnBook
from tumbler_backends.sandbox.posix.tree import TREE_VARIABLE

__all__ = ["Spawner", "words_of"]

_SHORT_S: Final = 60.0
"""The bound of this package's own short commands; a grace of a few seconds fits in."""
_KEPT: Final = 4 << 20
_LAUNCH: Final = 'cd -- "$1" || exit 126; unset OLDPWD; shift; exec "$@"'
"""The shell gives 126, 127 and their messages, whatever the cloud makes of a missing program."""


def words_of(command: str | Sequence[str]) -> list[str]:
    """Return a command's words; raise `ValueError` for what no process can be given."""
    words = ["sh", "-c", command] if isinstance(command, str) else list(command)
    if not words or any("\0" in word for word in words):
        raise ValueError(f"a command needs at least one word, and no word may hold a NUL: {str(command)[:200]!r}")
    return words


class Spawner:
    """The processes of one sandbox; keeps `tumbler.contracts.sandbox_process.SpawningSandbox`."""

    def __init__(self, cloud: Cloud, *, grace: float = 1.0, temporary: str = "/tmp") -> None:
        """Start none yet.

        Args:
            cloud: where they run.
            grace: seconds between SIGTERM and SIGKILL.
            temporary: an absolute folder inside where sessions keep their named pipes.
        """
        self.cloud = cloud
        self.grace = grace
        self.temporary = temporary
        self._book: SpawnBook[LaunchedProcess] = SpawnBook()
        self._timers: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Tell whether a spawned process is running."""
        return bool(self._book.running())

    async def spawn(
        self,
        command: str | Sequence[str],
        *,
        exec_id: str | None = None,
        stdin: bool = False,
        pty: TerminalSize | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        max_output: int = 8 << 20,
        tag: str | None = None,
    ) -> LaunchedProcess:
        """Start a process and return at once; see `tumbler.contracts.sandbox_process.SpawningSandbox.spawn`."""
        words = words_of(command)
        if pty is not None:
            raise CapabilityError("this backend offers no terminals whose size can be set; spawn without `pty`")

        async def start(name: str) -> LaunchedProcess:
            if cwd is not None:
                await self._require_folder(cwd)
            record = LaunchRecord(name, words, max_output=max_output, tag=tag)
            process = await self._launch(record, words, cwd=cwd, env=env or {}, stdin=stdin)
            if timeout is not None:
                self._bound(process, record, timeout)
            return process

        return await self._book.spawn(exec_id, start)

    async def process(self, exec_id: str) -> LaunchedProcess:
        """Return a process spawned before; raises `ProcessLookupError` if there is none."""
        return await self._book.get(exec_id)

    async def processes(self) -> Sequence[ProcessInfo]:
        """Return the spawned processes, oldest first."""
        return self._book.infos()

    async def launch(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bool = False,
        max_output: int = _KEPT,
    ) -> LaunchedProcess:
        """Start a process that `processes` does not list; whoever asked for it abandons it at the end."""
        record = LaunchRecord(secrets.token_hex(16), words, max_output=max_output)
        return await self._launch(record, words, cwd=None, env=env or {}, stdin=stdin)

    async def settled(self, words: Sequence[str]) -> ProcessExit:
        """Run a short command to its end."""
        process = await self.launch(words, max_output=1 << 12)
        try:
            return await process.wait(_SHORT_S)
        except TimeoutError as error:
            raise SandboxUnavailable(f"{words[0]!r} in the sandbox did not end within {_SHORT_S:g} s") from error
        finally:
            await process.abandon()

    async def close(self) -> None:
        """Forget all timers, and stop reading; the processes themselves end with the sandbox."""
        for timer in self._timers:
            timer.cancel()
        await self._book.settle()
        await asyncio.gather(*(process.abandon() for process in self._book.running()), return_exceptions=True)

    async def _launch(
        self, record: LaunchRecord, words: Sequence[str], *, cwd: str | None, env: Mapping[str, str], stdin: bool
    ) -> LaunchedProcess:
        self.cloud.require()
        tree = secrets.token_hex(16)
        place = posixpath.join(self.cloud.workdir, cwd or ".")
        wrapped = ["/bin/sh", "-c", _LAUNCH, "sh", place, *words]
        marked = {**env, TREE_VARIABLE: tree}
        process = await self.cloud.start(wrapped, env=marked, stdin=stdin, record=record)
        return LaunchedProcess(record, process, tree, self._run, stdin=stdin)

    async def _run(self, words: Sequence[str]) -> None:
        await self.settled(words)

    async def _require_folder(self, cwd: str) -> None:
        place = posixpath.join(self.cloud.workdir, cwd)
        if (await self.settled(["/bin/sh", "-c", 'cd -- "$1"', "sh", place])).exit_code != 0:
            raise FileNotFoundError(errno.ENOENT, "the working directory does not exist in the sandbox", cwd)

    def _bound(self, process: LaunchedProcess, record: LaunchRecord, timeout: float) -> None:
        task = asyncio.get_running_loop().create_task(self._end_after(process, record, timeout))
        self._timers.add(task)
        task.add_done_callback(self._timers.discard)

    async def _end_after(self, process: LaunchedProcess, record: LaunchRecord, timeout: float) -> None:
        try:
            await record.wait(timeout)
        except TimeoutError:
            record.timed_out = True
            await self._end(process)
        except SandboxError:  # the sandbox is gone: whoever waits is told
            return

    async def _end(self, process: LaunchedProcess) -> None:
        try:
            await process.kill(self.grace)
        except SandboxError:  # nobody is here to be told; whoever waits is
            return
