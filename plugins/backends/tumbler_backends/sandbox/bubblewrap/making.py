"""Make one sandbox from a spec, or take one over from what a dead owner left; keeps no count."""

import asyncio
import contextlib
import errno
import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from tumbler.contracts.sandbox import Healthcheck, SandboxSpec
from tumbler.errors import QuotaExceeded, SandboxError, SandboxStartFailed
from tumbler_backends.sandbox.bubblewrap.admission import pinned_mounts, require_enforceable
from tumbler_backends.sandbox.bubblewrap.box import Box
from tumbler_backends.sandbox.bubblewrap.control import Steward
from tumbler_backends.sandbox.bubblewrap.filesystem.finishing import to_the_end
from tumbler_backends.sandbox.bubblewrap.filesystem.images import ImageStore
from tumbler_backends.sandbox.bubblewrap.filesystem.layout import Layout
from tumbler_backends.sandbox.bubblewrap.filesystem.storage import Storage
from tumbler_backends.sandbox.bubblewrap.filesystem.templates import StoredTemplate, TemplateStore
from tumbler_backends.sandbox.bubblewrap.filesystem.users import find_user
from tumbler_backends.sandbox.bubblewrap.host import Host
from tumbler_backends.sandbox.bubblewrap.living import Living
from tumbler_backends.sandbox.bubblewrap.network import Network, offered_modes, require_policy
from tumbler_backends.sandbox.bubblewrap.ownership.records import Record, without_files
from tumbler_backends.sandbox.bubblewrap.ownership.removal import remove_tree
from tumbler_backends.sandbox.bubblewrap.sandbox import BubblewrapSandbox
from tumbler_backends.sandbox.egress.egress_log import EgressLog

__all__ = ["Maker"]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class _Household(Steward, Protocol):
    """The backend, as its maker sees it."""

    @property
    def living(self) -> Living:
        """Return the index of living sandboxes."""
        ...


class Maker:
    """Makes sandboxes for one backend."""

    def __init__(
        self,
        host: Host,
        owner: str,
        images: ImageStore,
        templates: TemplateStore,
        log: EgressLog,
        household: _Household,
    ) -> None:
        """Make them on `host` in the name of `owner`, for `household`."""
        self._host = host
        self._owner = owner
        self._images = images
        self._templates = templates
        self._log = log
        self._household = household
        self._modes = offered_modes()

    async def make(self, spec: SandboxSpec, stored: StoredTemplate | None = None) -> BubblewrapSandbox:
        """Make a sandbox, with the files of a template where one is given or named."""
        began = time.perf_counter()
        identity = secrets.token_hex(6)
        living = self._household.living
        self._require(spec)
        if spec.mounts:
            spec = replace(spec, mounts=pinned_mounts(spec.mounts, self._host.settings.mountable))
        if stored is None and spec.template is not None:
            stored = self._templates.get(spec.template)
        living.take_name(spec.name, identity)
        try:
            sandbox = await self._make(identity, spec, stored)
        except BaseException as error:
            living.give_name_back(spec.name, identity)
            self._host.metrics.infra_failures += isinstance(error, SandboxError) and error.infra
            raise
        self._host.metrics.count_ready(time.perf_counter() - began)
        return sandbox

    def adopt(self, record: Record) -> BubblewrapSandbox | None:
        """Take over a sandbox of a dead owner of the same name; what has no files any more is removed."""
        folder = self._host.folder / record.id
        if record.in_memory or time.time() >= record.expires:
            remove_tree(folder)
            return None
        spec = record.spec
        box = self._box(record.id, spec, record.image, Path(record.lower) if record.lower else None, None)
        remove_tree(box.layout.control)
        box.layout.control.mkdir()
        box.prepare()
        sandbox = BubblewrapSandbox(box, record, self._household)
        self._household.living.add(sandbox)
        return sandbox

    async def _make(self, identity: str, spec: SandboxSpec, stored: StoredTemplate | None) -> BubblewrapSandbox:
        image = stored.image if stored is not None else spec.image
        lower = Path(stored.lower) if stored is not None and stored.lower else await self._lower(spec)
        seed = self._templates.files(stored.id) if stored is not None else None
        box = self._box(identity, spec, image, lower, seed)
        record = self._record(box, image, lower)
        sandbox = BubblewrapSandbox(box, record, self._household)
        self._household.living.add(sandbox)
        try:
            await self._fill(box, record, seed)
            for path, content in spec.files.items():
                await sandbox.write(path, content)
            if spec.healthcheck is not None:
                await self._until_healthy(sandbox, spec.healthcheck)
        except BaseException as error:
            await sandbox.delete()
            if isinstance(error, OSError) and not isinstance(error, SandboxError):
                raise self._explained(error) from error
            raise
        return sandbox

    async def _fill(self, box: Box, record: Record, seed: Path | None) -> None:
        if seed is None:
            box.make()
        else:
            await to_the_end(asyncio.to_thread(box.make))
        if box.storage.in_memory:  # the memory is there from now on, and with it the files of a template
            async with box.storage.room.entered():
                pass
        record.save(box.layout.folder, fresh=True)

    def _box(self, identity: str, spec: SandboxSpec, image: str | None, lower: Path | None, seed: Path | None) -> Box:
        roots = [] if lower is None else [lower] if seed is None else [seed, lower]
        user = find_user(spec.user, tuple(roots))
        layout = Layout.of(self._host.folder / identity, replace(spec, image=image), user)
        network = Network(
            spec.network,
            log=self._log,
            sandbox=identity,
            trajectory=spec.labels.get("trajectory"),
            names=self._host.settings.hosts,
        )
        return Box(self._host, identity, spec, Storage(layout, spec, lower, network, seed))

    def _record(self, box: Box, image: str | None, lower: Path | None) -> Record:
        now = time.time()
        return Record(
            id=box.name,
            owner=self._owner,
            created=now,
            expires=now + box.spec.ttl,
            spec=without_files(box.spec),
            image=image,
            lower=str(lower) if lower is not None else None,
            in_memory=box.storage.in_memory,
        )

    async def _lower(self, spec: SandboxSpec) -> Path | None:
        if spec.image is None:
            return None
        return self._images.known(spec.image) or await asyncio.to_thread(self._images.resolve, spec.image)

    def _require(self, spec: SandboxSpec) -> None:
        limit = self._host.settings.max_sandboxes
        if limit and len(self._household.living) >= limit:
            raise QuotaExceeded(f"this owner has {limit} sandboxes already: delete some, or raise `max_sandboxes`")
        require_enforceable(spec, self._host, self._images, self._modes)
        if spec.network.mode != "none":
            require_policy(spec.network, self._host.settings.hosts)

    async def _until_healthy(self, sandbox: BubblewrapSandbox, check: Healthcheck) -> None:
        last = "it did not end in time"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(sandbox.spec.startup_timeout):
                while True:
                    result = await sandbox.exec(check.command, timeout=check.timeout)
                    if result.exit_code == 0:
                        return
                    last = f"it exited with {result.exit_code}: {result.stderr[-500:].decode(errors='replace')!r}"
                    await asyncio.sleep(check.interval)
        raise SandboxStartFailed(
            f"the health check {' '.join(check.command)!r} did not succeed within {sandbox.spec.startup_timeout:g} s; "
            f"at last {last}",
            "healthcheck",
        )

    def _explained(self, error: OSError) -> SandboxError:
        if error.errno in _FULL:
            return QuotaExceeded(
                f"the disk of {self._host.folder} is full: {error}; free some, or set `root` elsewhere"
            )
        return SandboxStartFailed(f"the files of the sandbox could not be laid out: {error}", "files")
