"""Make one sandbox, or take over one that is there: image, container, files, network, healthcheck."""

import asyncio
import contextlib
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.contracts.sandbox_control import Template
from tumbler.errors import CapabilityError, SandboxError, SandboxNotFound, SandboxStartFailed
from tumbler_backends.sandbox.docker.container import Container, State, removed_unless_kept
from tumbler_backends.sandbox.docker.engine import Engine
from tumbler_backends.sandbox.docker.hardening import HOME, Plan, container_configuration, writable_folders
from tumbler_backends.sandbox.docker.holding import CONTROL
from tumbler_backends.sandbox.docker.images import Image, Images
from tumbler_backends.sandbox.docker.living import AnySandbox
from tumbler_backends.sandbox.docker.owned import OwnedSandbox
from tumbler_backends.sandbox.docker.owners import LABEL, Owner, Record, sandbox_labels
from tumbler_backends.sandbox.docker.sandbox import DockerSandbox
from tumbler_backends.sandbox.docker.settings import DockerSettings
from tumbler_backends.sandbox.docker.templates import Templates
from tumbler_backends.sandbox.docker.users import find_user

__all__ = ["Holder", "Maker"]


class Holder(Protocol):
    """Makes sandboxes of running containers."""

    local: bool
    """Whether the engine's machine is this one, and its containers are open to this process."""

    async def hold(self, container: Container, state: State, record: Record, image: Image) -> AnySandbox:
        """Return a sandbox that takes commands."""
        ...

    async def let_go(self, sandbox: OwnedSandbox) -> None:
        """Close what was opened of a sandbox; its container stays."""
        ...

    async def close(self) -> None:
        """Close what all sandboxes share."""
        ...


class Maker:
    """Makes the sandboxes of one owner on one engine."""

    def __init__(
        self, engine: Engine, settings: DockerSettings, owner: Owner, *, root: Path, runtime: str | None, holder: Holder
    ) -> None:
        """Make nothing yet."""
        self._engine = engine
        self._settings = settings
        self._owner = owner
        self._root = root
        self._runtime = runtime
        self._starts = asyncio.Semaphore(settings.concurrent_starts)
        self.holder = holder
        self.images = Images(engine, settings)
        self.templates = Templates(engine, self.images, owner.labels())

    async def find_image(self, spec: SandboxSpec) -> Image:
        """Return the image that a spec starts from."""
        if spec.template is not None:
            if not self.holder.local:
                raise CapabilityError("a template can be used on the engine's own machine only, by root")
            return await self.templates.find(spec.template)
        return await self.images.find(spec.image)

    async def make(self, spec: SandboxSpec, image: Image) -> AnySandbox:
        """Make a sandbox that is ready for its first command."""
        identity = secrets.token_hex(8)
        created = time.time()
        numbers = self._numbers(spec)
        control = self._make_folder(identity)
        named = self._name_of_image(spec)
        labels = {**self._owner.labels(), **sandbox_labels(identity, spec, created, image.identity, named)}
        plan = Plan(
            spec=spec,
            image=image.identity,
            user=numbers[0],
            group=numbers[1],
            runtime=self._runtime,
            control=str(control) if self.holder.local else None,
            labels=labels,
        )
        record = Record(
            id=identity,
            owner=self._owner.name,
            container="",
            spec=spec,
            created=created,
            expires=created + spec.ttl,
            image=named or image.identity,
            labels=labels,
            owner_labels=labels,
        )
        async with self._folder_kept(identity):
            configuration = container_configuration(plan, self._settings)
            container = await Container.create(self._engine, f"tumbler-{identity}", configuration)
            async with removed_unless_kept(container):
                async with asyncio.timeout(spec.startup_timeout), self._starts:
                    await container.start()
                    state = await self._running(container)
                record = replace(record, container=container.id)
                sandbox = await self.holder.hold(container, state, record, image)
                try:
                    await self._prepare(sandbox, container, image)
                except BaseException:
                    await self.holder.let_go(sandbox)
                    raise
        return sandbox

    async def attach(self, record: Record) -> AnySandbox:
        """Take over a running container; raise `SandboxNotFound` where it is not."""
        container = Container(self._engine, record.container)
        state = await container.state()
        if state is None or not state.running:
            raise SandboxNotFound(f"sandbox {record.id} does not run any more")
        mine = replace(record, owner=self._owner.name, owner_labels=self._owner.labels())
        image = await self.images.known(record.labels[f"{LABEL}.image"]) or Image(
            identity=record.labels[f"{LABEL}.image"]
        )
        sandbox = await self.holder.hold(container, state, mine, image)
        sandbox.life.paused = state.paused
        mine.save(self._root)
        return sandbox

    def remove_folder(self, record: Record) -> None:
        """Remove what is kept of a sandbox on this machine."""
        shutil.rmtree(self._root / record.maker / record.id, ignore_errors=True)

    async def _prepare(self, sandbox: AnySandbox, container: Container, image: Image) -> None:
        """Do what is left before the first command."""
        spec = sandbox.spec
        await self._lay_out(sandbox, container, image)
        if spec.network.mode != "none":
            await sandbox.set_network(spec.network)
        if spec.healthcheck is not None:
            await _until_healthy(sandbox)

    async def _lay_out(self, sandbox: AnySandbox, container: Container, image: Image) -> None:
        try:
            if isinstance(sandbox, DockerSandbox):
                await asyncio.to_thread(sandbox.tree.own, writable_folders(sandbox.spec))
                if self._settings.root_filesystem == "read-only":
                    await self.templates.fill(sandbox.box, container, image, writable_folders(sandbox.spec))
            await sandbox.mkdir(sandbox.spec.workdir)
            for path, content in sandbox.spec.files.items():
                await sandbox.write(path, content)
        except OSError as error:
            if isinstance(error, SandboxError):
                raise
            raise SandboxStartFailed(f"the files of the sandbox could not be laid out: {error}", "files") from error

    async def _running(self, container: Container) -> State:
        state = await container.state()
        if state is None or not state.running or not state.pid:
            code = "" if state is None else f" with {state.exit_code}"
            raise SandboxStartFailed(f"the container ended at its start{code}: has the image a /bin/sh?", "start")
        return state

    async def snapshot(self, sandbox: OwnedSandbox) -> Template:
        """Copy a sandbox's files into a template."""
        if not isinstance(sandbox, DockerSandbox):
            raise CapabilityError("files can be copied on the engine's own machine only, by root")
        controlled = sandbox.controlled
        image = controlled.record.labels[f"{LABEL}.image"]
        return await self.templates.make(sandbox.box, controlled.container, image, controlled.places)

    def _name_of_image(self, spec: SandboxSpec) -> str | None:
        """Return what people call the image that a spec starts from; None where it has no name."""
        if spec.image is not None or spec.template is not None:
            return spec.image
        return self._settings.image if self._settings.dockerfile is None else None

    def _numbers(self, spec: SandboxSpec) -> tuple[int, int]:
        """Return the owner of the writable folders, where it is known before the image can be looked into."""
        try:
            user = find_user(spec.user or self._settings.user, lambda _: "", HOME)
        except CapabilityError:
            if not self.holder.local:
                raise
            return 0, 0  # the folders are given away later
        return user[0], user[1]

    def _make_folder(self, identity: str) -> Path:
        control = self._owner.folder / identity / CONTROL
        control.mkdir(parents=True)
        # The commands' user looks files up by name here, whatever this process's umask is.
        for folder in (control.parent, control):
            folder.chmod(0o711)
        return control

    @contextlib.asynccontextmanager
    async def _folder_kept(self, identity: str) -> AsyncIterator[None]:
        try:
            yield
        except BaseException as error:
            shutil.rmtree(self._owner.folder / identity, ignore_errors=True)
            if isinstance(error, TimeoutError) and not isinstance(error, SandboxError):
                raise SandboxStartFailed("the container did not start in time", "start") from error
            raise


async def _until_healthy(sandbox: AnySandbox) -> None:
    check = sandbox.spec.healthcheck
    assert check is not None
    said = "it was never finished"
    try:
        async with asyncio.timeout(sandbox.spec.startup_timeout):
            while True:
                result = await sandbox.exec(check.command, timeout=check.timeout)
                if result.exit_code == 0 and not result.timed_out:
                    return
                said = f"it ended with {result.exit_code}: {os.fsdecode((result.stderr or result.stdout)[-500:])}"
                await asyncio.sleep(check.interval)
    except TimeoutError as error:
        raise SandboxStartFailed(
            f"the healthcheck {list(check.command)} did not succeed in {sandbox.spec.startup_timeout} s; {said}",
            "healthcheck",
        ) from error
