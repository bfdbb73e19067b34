"""One Modal sandbox: a bubblewrap sandbox with an agent inside, its main process and its end."""

import asyncio
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from modal_proto import api_pb2

from modal_server.execs import Exec, Gone
from tumbler.contracts.sandbox import ExecResult, Mount, NetworkPolicy, Resources, SandboxSpec
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.sandbox import BubblewrapSandbox

_INSIDE = "/__modal"
_READY_S = 60.0
_PROCESSES = 4096
_MEMORY = 4 << 30
_WATCH_S = 0.1
_YEAR_S = 365 * 86400.0

Status = api_pb2.GenericResult.GenericStatus


@dataclass
class Machine:
    """A sandbox as the control plane knows it."""

    number: str
    app_id: str
    definition: api_pb2.Sandbox
    env: Mapping[str, str]
    tags: dict[str, str]
    folder: Path
    user: str | None
    created: float = field(default_factory=time.time)
    result: api_pb2.GenericResult | None = None
    execs: dict[str, Exec] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.finished = asyncio.Event()
        self.sandbox_id = f"sb-v2-{self.number}"
        self.task_id = f"ta-{self.number}V"
        self.used = time.monotonic()
        self.box: BubblewrapSandbox | None = None
        self.main: Exec | None = None
        self._agent: asyncio.Task[ExecResult] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = asyncio.Lock()
        self._starts: dict[str, asyncio.Task[Exec]] = {}

    async def start(self, backend: BubblewrapBackend, template: str | None) -> None:
        """Make the sandbox and start its main process."""
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o777)
        shutil.copy(Path(__file__).with_name("agent.py"), self.folder / "agent.py")
        self.box = await backend.create(self._spec(template))
        await self._start_agent(self.box)
        words = list(self.definition.entrypoint_args) or ["sleep", "infinity"]
        self.main = await Exec.start(self.folder, words, self.workdir, self.env)
        self._tasks = [asyncio.create_task(self._watch_main(self.main)), asyncio.create_task(self._watch_time())]

    @property
    def workdir(self) -> str:
        return self.definition.workdir or "/work"

    def touch(self) -> None:
        """Count as a use."""
        self.used = time.monotonic()

    async def tunnel(self, port: int) -> api_pb2.TunnelData:
        """Make a port inside reachable on this machine, without encryption."""
        if self.box is None:
            raise RuntimeError("the sandbox is not started")
        place = urlsplit(await self.box.expose(port))
        assert place.hostname is not None
        assert place.port is not None
        return api_pb2.TunnelData(
            host=place.hostname,
            port=place.port,
            unencrypted_host=place.hostname,
            unencrypted_port=place.port,
            container_port=port,
        )

    async def exec(
        self, exec_id: str, words: Sequence[str], cwd: str, env: Mapping[str, str], timeout: float | None
    ) -> Exec:
        """Start a process; an id that was seen before is the same process."""
        self.touch()
        if exec_id not in self._starts:
            self._starts[exec_id] = asyncio.create_task(self._exec(exec_id, words, cwd, env, timeout))
        return await asyncio.shield(self._starts[exec_id])

    async def end(self, status: "Status.ValueType", exit_code: int) -> None:
        """End the sandbox. The first reason counts."""
        async with self._ending:
            if self.result is not None:
                return
            self.result = api_pb2.GenericResult(status=status, exitcode=exit_code)
            for one in (*self.execs.values(), *((self.main,) if self.main is not None else ())):
                one.close()
            if self.box is not None:
                await self.box.delete()
            if self._agent is not None:
                await asyncio.wait((self._agent,))
            shutil.rmtree(self.folder, ignore_errors=True)
            self.finished.set()
            for task in self._tasks:
                if task is not asyncio.current_task():
                    task.cancel()

    async def _exec(
        self, exec_id: str, words: Sequence[str], cwd: str, env: Mapping[str, str], timeout: float | None
    ) -> Exec:
        started = await Exec.start(self.folder, words, cwd or self.workdir, {**self.env, **env})
        self.execs[exec_id] = started
        if timeout:
            asyncio.get_running_loop().call_later(timeout, started.kill)
        if self.result is not None:
            started.close()
        return started

    async def _watch_main(self, main: Exec) -> None:
        try:
            code = await main.code
        except Gone:
            await self.end(Status.GENERIC_STATUS_FAILURE, 1)
            return
        code = 128 - code if code < 0 else code
        await self.end(Status.GENERIC_STATUS_FAILURE if code else Status.GENERIC_STATUS_SUCCESS, code)

    async def _watch_time(self) -> None:
        deadline = time.monotonic() + (self.definition.timeout_secs or 300)
        idle = self.definition.idle_timeout_secs
        while True:
            await asyncio.sleep(_WATCH_S)
            now = time.monotonic()
            if any(not one.code.done() for one in self.execs.values()):
                self.used = now
            if now > deadline:
                await self.end(Status.GENERIC_STATUS_TIMEOUT, 124)
            elif idle and now > self.used + idle:
                await self.end(Status.GENERIC_STATUS_IDLE_TIMEOUT, 124)

    async def _start_agent(self, box: BubblewrapSandbox) -> None:
        words = ["/usr/bin/python3", "-SE", f"{_INSIDE}/agent.py", f"{_INSIDE}/socket"]
        self._agent = asyncio.create_task(box.exec(words, timeout=_YEAR_S))
        self._agent.add_done_callback(lambda task: task.cancelled() or task.exception())
        async with asyncio.timeout(_READY_S):
            while not (self.folder / "socket").exists():
                if self._agent.done():
                    raise RuntimeError(f"the agent did not start: {self._agent.result()}")
                await asyncio.sleep(0.005)

    def _spec(self, template: str | None) -> SandboxSpec:
        resources = self.definition.resources
        return SandboxSpec(
            template=template,
            user=self.user,
            workdir=self.workdir,
            env=self.env,
            mounts=(Mount(source=str(self.folder), target=_INSIDE, writable=True),),
            network=policy_of(self.definition.network_access),
            resources=Resources(
                cpus=resources.milli_cpu_max / 1000 or None,
                memory_bytes=(resources.memory_mb_max << 20) or _MEMORY,
                processes=_PROCESSES,
            ),
            ttl=_YEAR_S,
        )


def policy_of(access: api_pb2.NetworkAccess) -> NetworkPolicy:
    """Return a network policy as bubblewrap takes it."""
    kind = api_pb2.NetworkAccess.NetworkAccessType
    if access.network_access_type == kind.BLOCKED:
        return NetworkPolicy()
    if access.network_access_type == kind.ALLOWLIST:
        cidrs, hosts = tuple(access.allowed_cidrs), tuple(access.allowed_domains)
        return NetworkPolicy(mode="allowlist", cidrs=cidrs, hosts=hosts) if cidrs or hosts else NetworkPolicy()
    return NetworkPolicy(mode="public")
