"""A sandbox without `async`; see `tumbler.contracts.sandbox` and its neighbours for what each method promises."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from tumbler.contracts.sandbox import ExecResult, IsolationTier, NetworkPolicy, SandboxSpec
from tumbler.contracts.sandbox_control import EgressRecord, SandboxInfo, SandboxUsage, Template
from tumbler.contracts.sandbox_process import ProcessInfo, TerminalSize
from tumbler.sandboxes.sync_files import SyncFiles
from tumbler.sandboxes.sync_processes import SyncProcess, SyncSession

__all__ = ["SyncSandbox"]


class SyncSandbox(SyncFiles):
    """A sandbox; as a context manager it is deleted at the end.

    Methods beyond the basic protocol raise `CapabilityError` where the backend's sandboxes have only that.
    """

    def __enter__(self) -> Self:
        """Return the sandbox itself."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Delete it."""
        self.delete()

    @property
    def id(self) -> str:
        """Return the sandbox's unique id."""
        return self._sandbox.id

    @property
    def tier(self) -> IsolationTier:
        """Return the isolation actually obtained."""
        return self._sandbox.tier

    @property
    def spec(self) -> SandboxSpec:
        """Return what it was made from."""
        return self._complete.spec

    def exec(
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
        return self._loop.run(
            self._sandbox.exec(
                command, input=input, cwd=cwd, env=env, timeout=timeout, max_output=max_output, check=check
            )
        )

    def session(self) -> SyncSession:
        """Open a shell session."""
        return SyncSession(self._loop.run(self._sandbox.session()), self._loop)

    def spawn(
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
    ) -> SyncProcess:
        """Start a process and return at once."""
        spawned = self._complete.spawn(
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
        return SyncProcess(self._loop.run(spawned), self._loop)

    def process(self, exec_id: str) -> SyncProcess:
        """Return a process spawned before."""
        return SyncProcess(self._loop.run(self._complete.process(exec_id)), self._loop)

    def processes(self) -> Sequence[ProcessInfo]:
        """Return the spawned processes."""
        return self._loop.run(self._complete.processes())

    def info(self) -> SandboxInfo:
        """Describe the sandbox."""
        return self._loop.run(self._complete.info())

    def extend(self, ttl: float) -> None:
        """Let it live `ttl` seconds from now on."""
        self._loop.run(self._complete.extend(ttl))

    def heartbeat(self) -> None:
        """Count as a use."""
        self._loop.run(self._complete.heartbeat())

    def pause(self) -> None:
        """Freeze all processes."""
        self._loop.run(self._complete.pause())

    def resume(self) -> None:
        """Undo `pause`."""
        self._loop.run(self._complete.resume())

    def set_network(self, policy: NetworkPolicy) -> None:
        """Replace the network policy at once."""
        self._loop.run(self._complete.set_network(policy))

    def egress(self) -> Sequence[EgressRecord]:
        """Return what was tried to be reached."""
        return self._loop.run(self._complete.egress())

    def expose(self, port: int) -> str:
        """Return a URL at which this machine reaches a port inside."""
        return self._loop.run(self._complete.expose(port))

    def usage(self) -> SandboxUsage:
        """Measure what it uses."""
        return self._loop.run(self._complete.usage())

    def snapshot(self) -> Template:
        """Copy its files into a template."""
        return self._loop.run(self._complete.snapshot())

    def fork(self, count: int = 1) -> "list[SyncSandbox]":
        """Create sandboxes with the same files."""
        return [SyncSandbox(fork, self._loop) for fork in self._loop.run(self._complete.fork(count))]

    def alive(self) -> bool:
        """Tell whether it really executes a command now."""
        return self._loop.run(self._sandbox.alive())

    def delete(self) -> None:
        """Kill all processes and remove every trace."""
        self._loop.run(self._sandbox.delete())
