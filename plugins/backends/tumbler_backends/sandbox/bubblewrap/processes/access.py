"""The part of a sandbox that is about its processes."""

from collections.abc import Mapping, Sequence

from tumbler.contracts.sandbox_control import SandboxUsage
from tumbler.contracts.sandbox_process import ProcessInfo, TerminalSize
from tumbler_backends.sandbox.bubblewrap.box import Box
from tumbler_backends.sandbox.bubblewrap.processes.spawned import BubblewrapSpawned, Spawner

__all__ = ["Processes"]


class Processes:
    """See `tumbler.contracts.sandbox_process.SpawningSandbox`, and `ControlledSandbox` for pausing and measuring."""

    def __init__(self, box: Box) -> None:
        """Begin with no process."""
        self._box = box
        self._spawner = Spawner(box)

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
    ) -> BubblewrapSpawned:
        """Start a process in namespaces of its own and return at once."""
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

    async def process(self, exec_id: str) -> BubblewrapSpawned:
        """Return a process spawned before, running or ended; raises `ProcessLookupError` if there is none."""
        return await self._spawner.process(exec_id)

    async def processes(self) -> Sequence[ProcessInfo]:
        """Return the spawned processes, oldest first."""
        return await self._spawner.processes()

    async def pause(self) -> None:
        """Freeze all processes; time-outs stand still, and new commands wait."""
        await self._box.pause()

    async def resume(self) -> None:
        """Undo `pause`."""
        await self._box.resume()

    async def usage(self) -> SandboxUsage:
        """Measure what it uses; processor time counts from its first command on."""
        return self._box.usage()
