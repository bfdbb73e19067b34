"""The sandbox that callers hold."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Final

from tumbler.contracts.sandbox import ExecResult, IsolationTier
from tumbler.errors import ExecFailed, ExecTimeout, SandboxError
from tumbler_backends.sandbox.bubblewrap.box import Box
from tumbler_backends.sandbox.bubblewrap.control import Control, Steward
from tumbler_backends.sandbox.bubblewrap.filesystem.access import Files
from tumbler_backends.sandbox.bubblewrap.ownership.records import Record
from tumbler_backends.sandbox.bubblewrap.processes.access import Processes
from tumbler_backends.sandbox.bubblewrap.processes.command import run_command
from tumbler_backends.sandbox.bubblewrap.processes.session import BubblewrapSession
from tumbler_backends.sandbox.bubblewrap.processes.shell import Shell

__all__ = ["BubblewrapSandbox"]

_ALIVE_S: Final = 10.0
_SHOWN_BYTES: Final = 2000


class BubblewrapSandbox(Files, Processes, Control):
    """One sandbox; see `tumbler.contracts.sandbox.Sandbox` for what each method promises.

    Each `exec` runs in process namespaces of its own and leaves nothing behind but files. Sessions
    and commands share /tmp, the home folder and the working directory, and no processes.
    """

    def __init__(self, box: Box, record: Record, steward: Steward) -> None:
        """Take over a box; `steward` is whose it is."""
        Control.__init__(self, box, record, steward)
        Processes.__init__(self, box)
        self._deletion: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        """Return the sandbox's unique id."""
        return self._box.name

    @property
    def tier(self) -> IsolationTier:
        """Return the isolation actually obtained."""
        return "namespace"

    async def exec(
        self,
        command: str | Sequence[str],
        *,
        input: bytes | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        max_output: int = 10 << 20,
        check: bool = False,
    ) -> ExecResult:
        """Run one command and wait for it; `max_output` bytes of stdout and as many of stderr are kept."""
        result = await run_command(
            self._box, command, given=input, cwd=cwd, env=env or {}, timeout=timeout, max_output=max_output
        )
        if check and result.timed_out:
            raise ExecTimeout(f"{command!r} ran past {timeout} s; {_shown(result)}", result)
        if check and result.exit_code != 0:
            raise ExecFailed(f"{command!r} exited with {result.exit_code}; {_shown(result)}")
        return result

    async def session(self) -> BubblewrapSession:
        """Open a bash session."""
        self._box.require()
        return BubblewrapSession(self._box, await Shell.start(self._box))

    async def alive(self) -> bool:
        """Tell whether the sandbox really executes a command now."""
        try:
            return (await self.exec(["true"], timeout=_ALIVE_S)).exit_code == 0
        except SandboxError:
            return False

    async def delete(self) -> None:
        """Kill all processes and remove every trace."""
        await self.delete_because("it was deleted", "deleted")

    async def delete_because(self, why: str, cause: str) -> None:
        """Delete the sandbox; `why` and `cause` are what later calls report."""
        if self._deletion is None:
            self._deletion = asyncio.get_running_loop().create_task(self._delete(why, cause))
        await asyncio.shield(self._deletion)

    async def leave(self) -> None:
        """End what runs here, and leave the files to the next owner of the same name; without files, delete it."""
        if self.record.in_memory:
            await self.delete()
            return
        if self._deletion is None:
            self.close_doors()
            why = "its owner has left it to the next one of the same name"
            self._deletion = asyncio.get_running_loop().create_task(self._box.dispose(why, "host", keep_files=True))
        await asyncio.shield(self._deletion)

    @property
    def box(self) -> Box:
        """Return where its processes start."""
        return self._box

    def abandon(self) -> None:
        """Remove what can be removed at once, without an event loop."""
        self._box.abandon()

    async def _delete(self, why: str, cause: str) -> None:
        try:
            self.close_doors()
            await self._box.dispose(why, cause)
        finally:
            self._steward.forget(self.id)


def _shown(result: ExecResult) -> str:
    stdout, stderr = (os.fsdecode(stream[-_SHOWN_BYTES:]) for stream in (result.stdout, result.stderr))
    return f"stdout ends {stdout!r}, stderr ends {stderr!r}"
