"""The deliberately weakened sandbox: bubblewrap with the whole host bound in and every protection left out.

Against it the attempts must succeed; a battery that finds nothing here could not find anything anywhere.
"""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tumbler.contracts.sandbox import ExecResult, IsolationTier, SandboxCapabilities, SandboxSpec, Session

__all__ = ["WeakBackend"]


class WeakSession:
    """Runs each command in a bash of its own; enough for the battery."""

    def __init__(self, sandbox: "WeakSandbox") -> None:
        """Keep the sandbox."""
        self._sandbox = sandbox

    async def run(self, command: str, *, timeout: float = 60.0, max_output: int = 1 << 20) -> ExecResult:
        """Run a command."""
        return await self._sandbox.exec(["bash", "-c", command], timeout=timeout, max_output=max_output)

    async def close(self) -> None:
        """Do nothing."""


class WeakSandbox:
    """A folder, and commands that see the whole host."""

    tier: IsolationTier = "process"

    def __init__(self, folder: Path) -> None:
        """Use `folder` as the working directory."""
        self.id = folder.name
        self._folder = folder

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
        """Run a command, and kill no more than its process group when its time is over."""
        words = ["sh", "-c", command] if isinstance(command, str) else list(command)
        began = time.perf_counter()
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            process = await asyncio.create_subprocess_exec(
                *("bwrap", "--dev-bind", "/", "/", "--chdir", str(self._folder), *words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
            timed_out = False
            try:
                await asyncio.wait_for(process.wait(), timeout)
            except TimeoutError:
                timed_out = True
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            stdout.seek(0)
            stderr.seek(0)
            return ExecResult(
                exit_code=process.returncode or 0,
                stdout=stdout.read(),
                stderr=stderr.read(),
                duration=time.perf_counter() - began,
                timed_out=timed_out,
            )

    async def session(self) -> Session:
        """Open a session."""
        return WeakSession(self)

    async def write(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file wherever its links lead."""
        place = self._folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        place.chmod(mode)

    async def read(self, path: str, *, limit: int = 10 << 20) -> bytes:
        """Read a file wherever its links lead."""
        return (self._folder / path).read_bytes()

    async def alive(self) -> bool:
        """Claim to live."""
        return True

    async def delete(self) -> None:
        """Remove the folder, and no process."""
        for mounted in ("m", "b", "mp"):
            place = self._folder / mounted
            if place.is_mount():
                await (await asyncio.create_subprocess_exec("umount", "-l", str(place))).wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class WeakBackend:
    """Makes weakened sandboxes."""

    capabilities = SandboxCapabilities(tier="process", network_modes=("none",))

    def __init__(self) -> None:
        """Choose where the folders lie."""
        self._root = Path(tempfile.mkdtemp(prefix="battery-control-"))
        self._count = 0

    async def start(self) -> None:
        """Do nothing."""

    async def create(self, spec: SandboxSpec) -> WeakSandbox:
        """Make a folder; limits, network policy and isolation are all ignored."""
        self._count += 1
        sandbox = WeakSandbox(self._root / str(self._count))
        (self._root / str(self._count)).mkdir()
        for path, content in spec.files.items():
            await sandbox.write(path, content, mode=0o755)
        return sandbox

    async def close(self) -> None:
        """Remove what is left."""
        shutil.rmtree(self._root, ignore_errors=True)
