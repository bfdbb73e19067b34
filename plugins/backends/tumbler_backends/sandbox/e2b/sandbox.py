"""The sandbox that callers hold."""

import asyncio
import contextlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from tumbler.contracts.sandbox import ExecResult, IsolationTier, SandboxSpec
from tumbler.contracts.sandbox_process import Process, ProcessInfo, TerminalSize
from tumbler.errors import SandboxError
from tumbler_backends.sandbox.e2b.cloud import E2bCloud
from tumbler_backends.sandbox.e2b.control import Control, Keeper
from tumbler_backends.sandbox.e2b.files import E2bFiles
from tumbler_backends.sandbox.e2b.spawner import E2bSpawner
from tumbler_backends.sandbox.e2b.wire import ERRORS, Wire, told
from tumbler_backends.sandbox.posix.command import require_success, run_command
from tumbler_backends.sandbox.posix.session import ProcessSession

__all__ = ["E2bSandbox"]

_ALIVE_S: Final = 10.0


class E2bSandbox(Control, E2bFiles):
    """One sandbox; see `tumbler.contracts.sandbox_control.CompleteSandbox` for what each method promises."""

    def __init__(self, wire: Wire, spec: SandboxSpec, keeper: Keeper) -> None:
        """Take over a sandbox that was made for `spec`."""
        Control.__init__(self, wire, spec, keeper)
        E2bFiles.__init__(self, wire, spec.workdir, self._change_mode)
        settings = keeper.settings
        cloud = E2bCloud(wire, spec.workdir, shared=settings.shared_processes)
        self._spawner = E2bSpawner(cloud, grace=settings.grace)
        self._deletion: asyncio.Task[None] | None = None

    @property
    def tier(self) -> IsolationTier:
        """Return the isolation that the service is said to give."""
        return self._keeper.settings.tier

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
        self._wire.life.require()
        self._keeper.count_command()
        with self._wire.life.active():
            result = await run_command(
                self._spawner, command, input=input, cwd=cwd, env=env, timeout=timeout, max_output=max_output
            )
        if check:
            require_success(command, result, timeout)
        return result

    async def session(self) -> ProcessSession:
        """Open a bash session."""
        self._wire.life.require()
        return await ProcessSession.open(self._spawner)

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
    ) -> Process:
        """Start a process and return at once."""
        self._wire.life.require()
        self._keeper.count_command()
        return await self._spawner.spawn(
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

    async def process(self, exec_id: str) -> Process:
        """Return a process spawned before; one that another owner spawned is told of from now on only."""
        return await self._spawner.process(exec_id)

    async def processes(self) -> Sequence[ProcessInfo]:
        """Return the processes spawned through this object, oldest first."""
        self._wire.life.require()
        return await self._spawner.processes()

    async def alive(self) -> bool:
        """Tell whether the sandbox really executes a command now."""
        try:
            return (await self.exec(["true"], timeout=_ALIVE_S)).exit_code == 0
        except (SandboxError, OSError):
            return False

    async def delete(self) -> None:
        """Kill all processes and remove every trace."""
        await self.delete_because("it was deleted", "deleted")

    async def delete_because(self, why: str, cause: str) -> None:
        """Delete the sandbox; `why` and `cause` are what later calls report."""
        if self._deletion is None:
            self._deletion = asyncio.get_running_loop().create_task(self._delete(why, cause))
        await asyncio.shield(self._deletion)

    async def let_go(self) -> None:
        """Stop reading from it, and leave it alone."""
        self._wire.life.end("its owner has left it to the next one of the same name", "host")
        with contextlib.suppress(SandboxError):
            await self._spawner.close()

    async def _delete(self, why: str, cause: str) -> None:
        self._wire.life.end(why, cause)
        try:
            await self._wire.sdk.kill()  # false where it is gone already
        except ERRORS as error:
            raise told(error) from error
        finally:
            self._keeper.forget(self.id)
            with contextlib.suppress(SandboxError):
                await self._spawner.close()

    async def user_names(self) -> Sequence[str]:
        """Return the name and the number of the user who runs the commands."""
        async with self._wire.calling():
            return (await self._wire.sdk.commands.run("id -un; id -u", user=self._wire.user)).stdout.split()

    async def own_folder(self, path: str) -> None:
        """Make a folder where only root may, and give it to the user of the commands."""
        number = (await self.user_names())[-1]
        async with self._wire.calling():
            command = f"mkdir -p {shlex.quote(path)} && chown {number} {shlex.quote(path)}"
            await self._wire.sdk.commands.run(command, user="root")

    async def _change_mode(self, path: str, mode: int) -> None:
        await self.exec(["chmod", f"{mode:o}", path], check=True)
