"""The sandbox that callers hold: commands, processes, sessions; its files are in another module."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from tumbler.contracts.sandbox import ExecResult, IsolationTier, NetworkPolicy, SandboxSpec
from tumbler.contracts.sandbox_control import EgressRecord, SandboxInfo, SandboxUsage, Template
from tumbler.contracts.sandbox_process import ProcessInfo, TerminalSize
from tumbler.errors import SandboxError
from tumbler_backends.sandbox.posix.command import require_success
from tumbler_backends.sandbox.posix.session import ProcessSession
from tumbler_backends.sandbox.posix.spawner import Spawner
from tumbler_backends.sandbox.process.box import Box
from tumbler_backends.sandbox.process.cloud import BoxCloud
from tumbler_backends.sandbox.process.commands import run_command
from tumbler_backends.sandbox.process.sandbox_files import SandboxFiles
from tumbler_backends.sandbox.process.spawned import SpawnedProcess, SpawnedProcesses

if TYPE_CHECKING:
    from tumbler_backends.sandbox.process.backend import ProcessBackend

__all__ = ["ProcessSandbox"]

_ALIVE_S: Final = 10.0
_STOP: Final = 19
_CONTINUE: Final = 18


class ProcessSandbox(SandboxFiles):
    """One sandbox without isolation; see `tumbler.contracts.sandbox_control.CompleteSandbox`.

    Paths given to its methods are paths below its private folder; its commands see that folder under its real
    path, and the rest of this machine as well.
    """

    tier: IsolationTier = "process"

    def __init__(self, box: Box, backend: "ProcessBackend") -> None:
        """Take over a box that is made."""
        super().__init__(box)
        self._backend = backend
        self._processes = SpawnedProcesses(box)
        self._spawner = Spawner(BoxCloud(box), grace=box.grace, temporary=str(box.root / "tmp"))
        self._deletion: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        """Return the sandbox's unique id."""
        return self._box.id

    @property
    def spec(self) -> SandboxSpec:
        """Return what it was made from."""
        return self._box.spec

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
        """Run one command and wait for it."""
        self._backend.counts.commands += 1
        result = await run_command(
            self._box, command, given=input, cwd=cwd, env=env or {}, timeout=timeout, max_output=max_output
        )
        if check:
            require_success(command, result, timeout)
        return result

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
    ) -> SpawnedProcess:
        """Start a process and return at once."""
        self._box.require()
        self._backend.counts.commands += 1
        return await self._processes.spawn(
            command,
            exec_id=exec_id,
            stdin=stdin,
            pty=pty,
            cwd=cwd,
            env=env or {},
            timeout=timeout,
            max_output=max_output,
            tag=tag,
        )

    async def process(self, exec_id: str) -> SpawnedProcess:
        """Return a process spawned before."""
        self._box.require()
        return await self._processes.book.get(exec_id)

    async def processes(self) -> Sequence[ProcessInfo]:
        """Return the spawned processes, oldest first."""
        self._box.require()
        return self._processes.book.infos()

    async def session(self) -> ProcessSession:
        """Open a bash session."""
        self._box.require()
        return await ProcessSession.open(self._spawner)

    async def alive(self) -> bool:
        """Tell whether the sandbox really executes a command now."""
        try:
            return (await self.exec(["true"], timeout=_ALIVE_S)).exit_code == 0
        except SandboxError:
            return False

    async def info(self) -> SandboxInfo:
        """Describe it."""
        self._box.require()
        return self._backend.describe(self)

    async def extend(self, ttl: float) -> None:
        """Let it live `ttl` seconds from now on."""
        self._box.require()
        self._backend.extend(self, ttl)

    async def heartbeat(self) -> None:
        """Count as a use."""
        self._box.require()

    async def pause(self) -> None:
        """Stop all processes."""
        self._box.require()
        await asyncio.to_thread(self._box.signal, _STOP)
        self._backend.mark(self, paused=True)

    async def resume(self) -> None:
        """Let them go on."""
        self._box.require()
        await asyncio.to_thread(self._box.signal, _CONTINUE)
        self._backend.mark(self, paused=False)

    async def set_network(self, policy: NetworkPolicy) -> None:
        """Accept the mode `public`, which is all there is."""
        self._box.require()
        self._backend.require_network(policy)

    async def egress(self) -> Sequence[EgressRecord]:
        """Return nothing: what processes reach is not seen."""
        self._box.require()
        return []

    async def expose(self, port: int) -> str:
        """Return the URL of a port of this machine: processes share its network."""
        self._box.require()
        return f"http://127.0.0.1:{port}"

    async def usage(self) -> SandboxUsage:
        """Measure what its files take and how many processes it has."""
        self._box.require()
        size = await asyncio.to_thread(self._box.files.size)
        return SandboxUsage(disk_bytes=size, processes=await asyncio.to_thread(self._box.signal, 0))

    async def snapshot(self) -> Template:
        """Copy its files into a template."""
        self._box.require()
        return await self._backend.copy(self._box)

    async def fork(self, count: int = 1) -> "Sequence[ProcessSandbox]":
        """Create sandboxes of the same spec with the same files."""
        self._box.require()
        return await self._backend.fork(self._box, count)

    def idle_rest(self, idle_ttl: float) -> float:
        """Return how many seconds are left until it counts as forgotten."""
        if self._box.busy:
            self._box.last_use = time.monotonic()
        return self._box.last_use + idle_ttl - time.monotonic()

    async def delete(self) -> None:
        """Kill all processes and remove every trace."""
        await self.delete_because("deleted", "it was deleted")

    async def delete_because(self, cause: str, why: str) -> None:
        """Delete it; `why` is what later calls report."""
        if self._deletion is None:
            self._deletion = asyncio.get_running_loop().create_task(self._delete(cause, why))
        await asyncio.shield(self._deletion)

    async def _delete(self, cause: str, why: str) -> None:
        self._backend.forget(self)
        await self._box.dispose(cause, why)
        await self._spawner.close()
