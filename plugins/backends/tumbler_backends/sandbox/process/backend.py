"""The process backend: owns sandboxes that are plain processes, and removes those that dead owners left."""

import asyncio
import secrets
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tumbler.contracts.sandbox import NetworkPolicy, SandboxCapabilities, SandboxSpec
from tumbler.contracts.sandbox_control import BackendMetrics, SandboxInfo, Template
from tumbler.errors import CapabilityError, SandboxError, SandboxNotFound, SandboxStartFailed, SandboxUnavailable
from tumbler_backends.sandbox.process.admission import require_possible
from tumbler_backends.sandbox.process.box import Box
from tumbler_backends.sandbox.process.keeping import Counts, Keeper
from tumbler_backends.sandbox.process.owners import Owner, claim, default_root, reap, remove_tree
from tumbler_backends.sandbox.process.sandbox import ProcessSandbox
from tumbler_backends.sandbox.process.settings import ProcessSettings

__all__ = ["ProcessBackend"]


class ProcessBackend:
    """Makes sandboxes without isolation. Call `start` before `create`, and `close` at the end, in one event loop."""

    def __init__(self, settings: ProcessSettings) -> None:
        """Keep the settings; nothing is touched before `start`."""
        self._settings = settings
        self._root = settings.root or default_root()
        self._owner: Owner | None = None
        self._keeper = Keeper()
        self._templates: dict[str, Template] = {}
        self._keys: dict[str, asyncio.Task[ProcessSandbox]] = {}
        self.counts = Counts()

    @property
    def capabilities(self) -> SandboxCapabilities:
        """Say what the backend can do."""
        return SandboxCapabilities(
            tier="process",
            network_modes=("public",),
            snapshots=True,
            pause=True,
            expose=True,
            watch=True,
            pty=True,
            shared_processes=True,
        )

    async def start(self) -> None:
        """Refuse without the explicit consent; warn with it, and sweep what dead owners left."""
        if self._owner is not None:
            return
        if not self._settings.i_know_this_is_not_isolated:
            raise SandboxUnavailable(
                "the process backend isolates nothing: commands run as this user, with all its files and networks. "
                "Use `bubblewrap`, or set i_know_this_is_not_isolated = true where every command is trusted"
            )
        if sys.platform != "linux":
            raise SandboxUnavailable("the process backend needs Linux: it finds a command's processes under /proc")
        warnings.warn(
            "the process backend isolates nothing: commands run as this user, with all its files and networks",
            RuntimeWarning,
            stacklevel=2,
        )
        await asyncio.to_thread(reap, self._root)
        self._owner = await asyncio.to_thread(claim, self._root)
        for name in ("boxes", "templates"):
            (self._owner.folder / name).mkdir()

    async def create(self, spec: SandboxSpec) -> ProcessSandbox:
        """Create a sandbox; a second call with the same idempotency key returns the first one's."""
        self._require_started()
        require_possible(spec)
        key = spec.idempotency_key
        if key is None:
            return await self._create(spec, None)
        found = self._keys.get(key)
        if found is None or (found.done() and (found.exception() or not self._keeper.has(found.result()))):
            found = self._keys[key] = asyncio.get_running_loop().create_task(self._create(spec, None))
        return await asyncio.shield(found)

    async def get(self, identity: str) -> ProcessSandbox:
        """Return a living sandbox by id or name."""
        sandbox = self._keeper.find(identity)
        if sandbox is None:
            raise SandboxNotFound(f"no living sandbox of this owner has the id or name {identity!r}")
        return sandbox

    async def list(self, *, labels: Mapping[str, str] | None = None, mine: bool = True) -> Sequence[SandboxInfo]:
        """Return the living sandboxes with all these labels, oldest first; other owners' are not known here."""
        wanted = (labels or {}).items()
        infos = [self.describe(sandbox) for sandbox in self._keeper.sandboxes()]
        return [info for info in infos if wanted <= info.labels.items()]

    async def attach(self, identity: str) -> ProcessSandbox:
        """Refuse: a sandbox ends with its owner."""
        raise CapabilityError(
            f"sandbox {identity!r} cannot be attached to: the process backend's sandboxes end with their owner"
        )

    async def reconcile(self) -> int:
        """Remove what is past its time and what dead owners left."""
        expired = await self._keeper.sweep()
        return expired + await asyncio.to_thread(reap, self._root)

    async def templates(self) -> Sequence[Template]:
        """Return the snapshots, oldest first."""
        return list(self._templates.values())

    async def delete_template(self, identity: str) -> None:
        """Remove a snapshot."""
        if self._templates.pop(identity, None) is None:
            raise SandboxNotFound(f"there is no template {identity!r}")
        await asyncio.to_thread(remove_tree, self._folder("templates") / identity)

    def measure(self) -> BackendMetrics:
        """Return the counts."""
        return self.counts.metrics(len(self._keeper.sandboxes()))

    async def close(self) -> None:
        """Delete every sandbox that this instance created, and its folder."""
        await self._keeper.close()
        owner, self._owner = self._owner, None
        if owner is not None:
            await asyncio.to_thread(owner.release)

    # For the sandboxes

    def describe(self, sandbox: ProcessSandbox) -> SandboxInfo:
        """Return what is known of a sandbox."""
        owner = self._owner.name if self._owner is not None else ""
        return self._keeper.describe(sandbox, owner)

    def extend(self, sandbox: ProcessSandbox, ttl: float) -> None:
        """Let a sandbox live on."""
        self._keeper.extend(sandbox, ttl)

    def mark(self, sandbox: ProcessSandbox, *, paused: bool) -> None:
        """Record that a sandbox was paused or goes on."""
        self._keeper.mark(sandbox, paused=paused)

    def forget(self, sandbox: ProcessSandbox) -> None:
        """Count a sandbox out."""
        if self._keeper.forget(sandbox):
            self.counts.deleted += 1

    async def copy(self, box: Box) -> Template:
        """Make a template of a sandbox's files."""
        identity = secrets.token_hex(6)
        await asyncio.to_thread(box.files.copy, self._folder("templates") / identity)
        template = Template(id=identity, created=time.time(), source=box.id, labels=dict(box.spec.labels))
        self._templates[identity] = template
        return template

    async def fork(self, box: Box, count: int) -> Sequence[ProcessSandbox]:
        """Create sandboxes with the files of another."""
        folder = self._folder("templates") / f"fork-{secrets.token_hex(6)}"
        spec = replace(box.spec, name=None, idempotency_key=None, healthcheck=None, files={})
        try:
            await asyncio.to_thread(box.files.copy, folder)
            return list(await asyncio.gather(*(self._create(spec, folder) for _ in range(count))))
        finally:
            await asyncio.to_thread(remove_tree, folder)

    async def _create(self, spec: SandboxSpec, source: Path | None) -> ProcessSandbox:
        began = time.perf_counter()
        owner = self._require_started()
        if spec.template is not None and source is None:
            if spec.template not in self._templates:
                raise SandboxNotFound(f"there is no template {spec.template!r}")
            source = self._folder("templates") / spec.template
        box = Box(owner.name, self._folder("boxes") / secrets.token_hex(6), spec, self._settings.grace)
        sandbox = ProcessSandbox(box, self)
        self._keeper.add(sandbox)
        try:
            await self._furnish(sandbox, box, source)
        except BaseException as error:
            await sandbox.delete()
            self.counts.start_failures += 1
            if isinstance(error, OSError) and not isinstance(error, SandboxError):
                raise SandboxStartFailed(f"the files could not be laid out: {error}", "files") from error
            raise
        self.counts.started(time.perf_counter() - began)
        self._keeper.watch(sandbox, self._expire)
        return sandbox

    async def _furnish(self, sandbox: ProcessSandbox, box: Box, source: Path | None) -> None:
        await asyncio.to_thread(box.make, source)
        for path, content in box.spec.files.items():
            await sandbox.write(path, content)
        check = box.spec.healthcheck
        if check is None:
            return
        said = "it was not tried"
        try:
            async with asyncio.timeout(box.spec.startup_timeout):
                while True:
                    result = await sandbox.exec(check.command, timeout=check.timeout)
                    if result.exit_code == 0 and not result.timed_out:
                        return
                    said = f"exit code {result.exit_code}, stderr {result.stderr[-500:]!r}"
                    await asyncio.sleep(check.interval)
        except TimeoutError:
            raise SandboxStartFailed(
                f"the healthcheck did not succeed within {box.spec.startup_timeout:g} s; last: {said}", "healthcheck"
            ) from None

    async def _expire(self, sandbox: ProcessSandbox, why: str) -> None:
        self.counts.expired += 1
        await sandbox.delete_because("ttl", why)

    def _folder(self, name: str) -> Path:
        return self._require_started().folder / name

    def _require_started(self) -> Owner:
        if self._owner is None:
            raise SandboxUnavailable("the process backend is not started: await its start() first")
        return self._owner

    def require_network(self, policy: NetworkPolicy) -> None:
        """Raise `CapabilityError` for a policy that would have to be enforced."""
        require_possible(SandboxSpec(isolation_min="process", network=policy))
