"""The sandbox that callers hold."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Protocol

from tumbler.contracts.sandbox import ExecResult, IsolationTier, NetworkPolicy, Sandbox, SandboxSpec
from tumbler.contracts.sandbox_control import EgressRecord, SandboxInfo, SandboxUsage, Template
from tumbler.contracts.sandbox_files import FileEvent
from tumbler.contracts.sandbox_process import ProcessInfo, TerminalSize
from tumbler.errors import CapabilityError, SandboxError
from tumbler_backends.sandbox.modal.admission import require_policy
from tumbler_backends.sandbox.modal.cloud import ModalCloud
from tumbler_backends.sandbox.modal.counts import Counts
from tumbler_backends.sandbox.modal.failures import GONE, calling
from tumbler_backends.sandbox.modal.lease import extension_words
from tumbler_backends.sandbox.modal.settings import ModalSettings
from tumbler_backends.sandbox.modal.tags import Passport
from tumbler_backends.sandbox.posix.command import require_success, run_command
from tumbler_backends.sandbox.posix.files import PosixFiles
from tumbler_backends.sandbox.posix.launched import LaunchedProcess
from tumbler_backends.sandbox.posix.session import ProcessSession
from tumbler_backends.sandbox.posix.spawner import Spawner

__all__ = ["Keeper", "ModalSandbox"]

_ALIVE_S: Final = 10.0
_SNAPSHOT_S: Final = 600.0
_COUNT: Final = 'n=0; for entry in /proc/[0-9]*; do n=$((n + 1)); done; echo "$n"; du -sk -- "$1" | cut -f 1'


class Keeper(Protocol):
    """What a sandbox asks of its backend."""

    @property
    def settings(self) -> ModalSettings:
        """Return the settings."""
        ...

    @property
    def counts(self) -> Counts:
        """Return the counts."""
        ...

    def forget(self, identity: str) -> None:
        """Learn that a sandbox is gone."""
        ...

    def keep(self, template: Template) -> None:
        """Learn of a new template."""
        ...

    async def copies(self, source: "ModalSandbox", count: int) -> Sequence[Sandbox]:
        """Make sandboxes of the same spec with the same files."""
        ...


class ModalSandbox(PosixFiles):
    """One sandbox; see `tumbler.contracts.sandbox_control.CompleteSandbox` for what each method promises.

    Its processes share one pid namespace: what a command leaves behind lives on.
    """

    def __init__(self, cloud: ModalCloud, spec: SandboxSpec, passport: Passport, keeper: Keeper) -> None:
        """Take over a sandbox that was made for `spec`."""
        self.cloud = cloud
        self._spec = spec
        self._passport = passport
        self._keeper = keeper
        self._processes = Spawner(cloud, grace=keeper.settings.grace)
        self._deletion: asyncio.Task[None] | None = None
        super().__init__(self._processes)

    @property
    def id(self) -> str:
        """Return Modal's id of the sandbox."""
        return str(self.cloud.sandbox.object_id)

    @property
    def tier(self) -> IsolationTier:
        """Return the isolation that the service is said to give."""
        return self._keeper.settings.tier

    @property
    def spec(self) -> SandboxSpec:
        """Return what it was made from."""
        return self._spec

    @property
    def passport(self) -> Passport:
        """Return whose it is, and how long it may live."""
        return self._passport

    # commands

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
        self._keeper.counts.commands += 1
        result = await run_command(
            self._processes, command, input=input, cwd=cwd, env=env, timeout=timeout, max_output=max_output
        )
        if check:
            require_success(command, result, timeout)
        return result

    async def session(self) -> ProcessSession:
        """Open a bash session."""
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
        """Return a process spawned before through this object; raises `ProcessLookupError` if there is none."""
        return await self._processes.process(exec_id)

    async def processes(self) -> Sequence[ProcessInfo]:
        """Return the processes spawned through this object, oldest first."""
        return await self._processes.processes()

    async def watch(self, path: str = ".", *, recursive: bool = False) -> AsyncIterator[FileEvent]:
        """Refuse: Modal tells of no changes."""
        raise CapabilityError("the modal backend cannot watch folders: list them again instead")
        yield  # makes this a generator, as the contract has it

    # life

    async def alive(self) -> bool:
        """Tell whether the sandbox really executes a command now."""
        try:
            return (await run_command(self._processes, ["true"], timeout=_ALIVE_S)).exit_code == 0
        except SandboxError:
            return False

    async def info(self) -> SandboxInfo:
        """Describe it."""
        self.cloud.require()
        return SandboxInfo(
            id=self.id,
            backend="modal",
            state="running",
            tier=self.tier,
            created=self._passport.created,
            expires=self._passport.expires,
            owner=self._passport.owner,
            name=self._spec.name,
            image=self._spec.image,
            labels=dict(self._spec.labels),
        )

    async def extend(self, ttl: float) -> None:
        """Let it live `ttl` seconds from now on; raises `CapabilityError` past the setting `max_lifetime`."""
        passport = self._passport.extended(ttl)
        longest = self._keeper.settings.max_lifetime
        if passport.expires - passport.created > longest:
            raise CapabilityError(f"a sandbox lives at most the {longest:g} s of the modal backend's max_lifetime")
        timeout = self._keeper.settings.request_timeout
        code, _ = await self.cloud.run_as_service(extension_words(ttl), timeout)
        if code != 0:
            raise CapabilityError(f"sandbox {self.id} has no lease that could be extended; was it made by Tumbler?")
        async with calling("set a sandbox's tags", timeout):
            await self.cloud.sandbox.set_tags.aio(passport.tags(self._spec))
        self._passport = passport

    async def heartbeat(self) -> None:
        """Count as a use, which on Modal is a command."""
        await self._processes.settled(["true"])

    async def pause(self) -> None:
        """Refuse: Modal pauses no sandbox."""
        raise CapabilityError("the modal backend cannot pause a sandbox: snapshot it and delete it instead")

    async def resume(self) -> None:
        """Refuse, as `pause` does."""
        raise CapabilityError("the modal backend cannot pause a sandbox, and so resume none")

    async def delete(self) -> None:
        """Kill all processes and remove every trace."""
        if self._deletion is None or (self._deletion.done() and self._deletion.exception() is not None):
            self._deletion = asyncio.get_running_loop().create_task(self._delete())
        await asyncio.shield(self._deletion)

    async def let_go(self) -> None:
        """Stop watching it and reading from it, and leave it alone."""
        self.cloud.die("its owner has left it to the next one of the same name", "host")
        await self._processes.close()
        await self.cloud.close()

    # network, measures, copies

    async def set_network(self, policy: NetworkPolicy) -> None:
        """Replace the network policy at once."""
        require_policy(policy, self._keeper.settings)
        self.cloud.require()
        rules: dict[str, Sequence[str] | None] = (
            {"outbound_cidr_allowlist": None, "outbound_domain_allowlist": None}
            if policy.mode == "public"
            else {"outbound_cidr_allowlist": policy.cidrs, "outbound_domain_allowlist": policy.hosts or None}
        )
        async with calling("set a network policy", self._keeper.settings.request_timeout):
            await self.cloud.sandbox._experimental_set_outbound_network_policy.aio(**rules)

    async def egress(self) -> Sequence[EgressRecord]:
        """Return nothing: Modal keeps no log."""
        self.cloud.require()
        return ()

    async def expose(self, port: int) -> str:
        """Return a URL at which a port inside is reached: one of the setting `ports`."""
        settings = self._keeper.settings
        if port not in settings.ports:
            raise CapabilityError(f"port {port} is not among the modal backend's setting ports, {settings.ports}")
        self.cloud.require()
        async with calling("look up a tunnel", settings.request_timeout):
            tunnel = (await self.cloud.sandbox.tunnels.aio())[port]
        if settings.encrypted_ports:
            return str(tunnel.url)
        host, outer = tunnel.tcp_socket
        return f"http://{host}:{outer}"

    async def usage(self) -> SandboxUsage:
        """Count the processes, and measure the working directory; Modal tells nothing else."""
        result = await run_command(self._processes, ["sh", "-c", _COUNT, "sh", self.cloud.workdir])
        numbers = [int(word) for word in result.stdout.split() if word.isdigit()]
        processes, kilobytes = (*numbers, None, None)[:2]
        return SandboxUsage(processes=processes, disk_bytes=kilobytes * 1024 if kilobytes is not None else None)

    async def snapshot(self) -> Template:
        """Copy its files into a Modal image."""
        self.cloud.require()
        async with calling("snapshot a sandbox", _SNAPSHOT_S):
            image = await self.cloud.sandbox.snapshot_filesystem.aio(timeout=int(_SNAPSHOT_S))
        template = Template(
            id=str(image.object_id), created=time.time(), source=self.id, labels=dict(self._spec.labels)
        )
        self._keeper.keep(template)
        return template

    async def fork(self, count: int = 1) -> Sequence[Sandbox]:
        """Create sandboxes of the same spec with the same files."""
        return await self._keeper.copies(self, count)

    async def _delete(self) -> None:
        self.cloud.die("it was deleted", "deleted")
        await self._processes.close()
        await self.cloud.close()
        async with calling(f"terminate the sandbox {self.id}", self._keeper.settings.request_timeout):
            with contextlib.suppress(*GONE):  # it has ended by itself
                await self.cloud.sandbox.terminate.aio()
            await self.cloud.sandbox.detach.aio()  # type: ignore[no-untyped-call]  # Modal gives it no types
        self._keeper.forget(self.id)
