"""The sandbox that callers hold, for containers that are reached through their engine alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from tumbler.contracts.sandbox import ExecResult, SandboxSpec
from tumbler.contracts.sandbox_control import SandboxUsage
from tumbler.contracts.sandbox_files import FileEvent
from tumbler.contracts.sandbox_process import ProcessInfo, TerminalSize
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.docker.cloud import DockerCloud
from tumbler_backends.sandbox.docker.container import Container
from tumbler_backends.sandbox.docker.control import Controlled
from tumbler_backends.sandbox.docker.life import Life
from tumbler_backends.sandbox.docker.owned import Keeper, OwnedSandbox
from tumbler_backends.sandbox.docker.settings import DockerSettings
from tumbler_backends.sandbox.posix.command import require_success, run_command
from tumbler_backends.sandbox.posix.files import PosixFiles
from tumbler_backends.sandbox.posix.launched import LaunchedProcess
from tumbler_backends.sandbox.posix.session import ProcessSession
from tumbler_backends.sandbox.posix.spawner import Spawner

__all__ = ["RemoteLife", "RemoteSandbox"]


class RemoteLife(Life):
    """A container that the engine watches for us."""

    def __init__(self, identity: str, spec: SandboxSpec, settings: DockerSettings, container: Container) -> None:
        """Begin to wait for its end."""
        super().__init__(identity, spec, settings, asyncio.get_running_loop().create_future())
        self._container = container
        self._cloud: DockerCloud | None = None
        self._waiting = asyncio.get_running_loop().create_task(self._wait())

    @property
    def busy(self) -> bool:
        """Tell whether a command runs."""
        return self._cloud is not None and self._cloud.busy

    def reached_by(self, cloud: DockerCloud) -> None:
        """Say what starts its commands."""
        self._cloud = cloud

    async def usage(self) -> SandboxUsage:
        """Measure what the container uses."""
        return usage_of(await self._container.statistics())

    async def end_commands(self) -> None:
        """Leave them alone: the engine runs them, and they end with the container."""

    async def close(self) -> None:
        """Stop waiting."""
        self._waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._waiting

    async def _wait(self) -> None:
        await self._container.ended()
        self.gone.set_result(None)


class RemoteSandbox(PosixFiles, OwnedSandbox):
    """One sandbox; see `tumbler.contracts.sandbox_control.CompleteSandbox` for what each method promises.

    Files and processes are had through commands of the image: sh, coreutils, awk, grep, and bash for sessions.
    """

    def __init__(self, life: RemoteLife, cloud: DockerCloud, controlled: Controlled, keeper: Keeper) -> None:
        """Take over a running container."""
        life.reached_by(cloud)
        self._processes = Spawner(cloud, grace=life.settings.grace)
        OwnedSandbox.__init__(self, life, controlled, keeper)
        PosixFiles.__init__(self, self._processes)

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
            self._processes, command, input=input, cwd=cwd, env=env, timeout=timeout, max_output=max_output
        )
        self._life.commands += 1
        if check:
            require_success(command, result, timeout)
        return result

    async def session(self) -> ProcessSession:
        """Open a bash session."""
        self._life.require()
        return await ProcessSession.open(self._processes)

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
        return await self._processes.spawn(
            command,
            exec_id=exec_id,
            stdin=stdin,
            pty=pty,
            cwd=cwd,
            env=env,
            timeout=timeout,
            max_output=max_output,
            tag=tag,
        )

    async def process(self, exec_id: str) -> LaunchedProcess:
        """Return a process spawned before, running or ended."""
        return await self._processes.process(exec_id)

    async def processes(self) -> Sequence[ProcessInfo]:
        """Return the spawned processes, oldest first."""
        return await self._processes.processes()

    def watch(self, path: str = ".", *, recursive: bool = False) -> AsyncIterator[FileEvent]:
        """Refuse: changes are seen on the engine's own machine only."""
        raise CapabilityError("folders can be watched on the engine's own machine only, by root")


def usage_of(measured: Mapping[str, Any]) -> SandboxUsage:
    """Return what the engine's statistics say."""
    cpu = measured.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage")
    memory = measured.get("memory_stats", {})
    return SandboxUsage(
        cpu_seconds=None if cpu is None else cpu / 1e9,
        memory_bytes=memory.get("usage"),
        memory_peak_bytes=memory.get("max_usage"),
        processes=measured.get("pids_stats", {}).get("current"),
    )
