"""What E2B adds to starting processes: terminals, and processes that another owner started."""

import asyncio
import posixpath
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from tumbler.contracts.sandbox_process import TerminalSize
from tumbler_backends.sandbox.e2b.cloud import E2bCloud, E2bProcess, TerminalRecord
from tumbler_backends.sandbox.posix.launched import LaunchedProcess, LaunchRecord, Run
from tumbler_backends.sandbox.posix.spawner import Spawner, words_of
from tumbler_backends.sandbox.posix.tree import TREE_VARIABLE

__all__ = ["E2bSpawner", "E2bTerminal"]

_KEPT: Final = 8 << 20
_PLACED: Final = 'cd -- "$1" || exit 126; unset OLDPWD; shift; exec "$@"'


class E2bSpawner(Spawner):
    """The processes of one sandbox."""

    def __init__(self, cloud: E2bCloud, *, grace: float) -> None:
        """Start none yet."""
        super().__init__(cloud, grace=grace)
        self._e2b = cloud
        self._finding = asyncio.Lock()

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
        """Start a process and return at once."""
        if pty is None:
            return await super().spawn(
                command,
                exec_id=exec_id,
                stdin=stdin,
                cwd=cwd,
                env=env,
                timeout=timeout,
                max_output=max_output,
                tag=tag,
            )
        words, size = words_of(command), pty

        async def start(name: str) -> LaunchedProcess:
            if cwd is not None:
                await self._require_folder(cwd)
            record = TerminalRecord(name, words, size=size, max_output=max_output, tag=tag)
            process = await self._start_terminal(record, words, cwd or ".", env or {})
            if timeout is not None:
                self._bound(process, record, timeout)
            return process

        return await self._book.spawn(exec_id, start)

    async def process(self, exec_id: str) -> LaunchedProcess:
        """Return a process spawned before; one that another owner spawned is told of from now on only."""
        try:
            return await super().process(exec_id)
        except ProcessLookupError:
            async with self._finding:
                found = await self._e2b.found(exec_id)
                if found is None:
                    raise
                info, key, tree = found

                async def adopt(name: str) -> LaunchedProcess:
                    record = LaunchRecord(name, info.config.args if info.config else (), max_output=_KEPT)
                    process = await self._e2b.connect(info.pid, key, record)
                    return LaunchedProcess(record, process, tree, self._run, stdin=True)

                return await self._book.spawn(exec_id, adopt)

    async def _start_terminal(
        self, record: TerminalRecord, words: Sequence[str], cwd: str, env: Mapping[str, str]
    ) -> "E2bTerminal":
        self._e2b.require()
        tree = secrets.token_hex(16)
        place = posixpath.join(self._e2b.workdir, cwd)
        placed = ["/bin/sh", "-c", _PLACED, "sh", place, *words]
        process = await self._e2b.start(placed, env={**env, TREE_VARIABLE: tree}, stdin=True, record=record)
        return E2bTerminal(record, process, tree, self._run)


class E2bTerminal(LaunchedProcess):
    """A process with a terminal."""

    def __init__(self, record: TerminalRecord, process: E2bProcess, tree: str, run: Run) -> None:
        """Take over what was started."""
        super().__init__(record, process, tree, run, stdin=True)
        self._terminal = process

    async def resize(self, size: TerminalSize) -> None:
        """Set the size of its terminal; does nothing once it has ended."""
        if not self.record.ended:
            await self._terminal.resize(size)
