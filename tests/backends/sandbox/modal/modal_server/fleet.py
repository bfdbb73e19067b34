"""All sandboxes and images of one test server."""

import asyncio
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpclib
from grpclib.const import Status as GrpcStatus
from modal_proto import api_pb2

from modal_server.machine import Machine, Status
from tumbler.errors import SandboxError
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend

_UNKNOWN = GrpcStatus.NOT_FOUND


class Fleet:
    """Makes sandboxes and finds them again."""

    def __init__(self, backend: BubblewrapBackend, folder: Path, user: str | None) -> None:
        self.url = ""
        self.apps: dict[str, str] = {}
        self.images: dict[str, str | None] = {}
        self._backend = backend
        self._folder = folder
        self._user = user
        self._machines: dict[str, Machine] = {}
        self._numbers = itertools.count(1)
        self._naming = asyncio.Lock()

    async def create(
        self, app_id: str, definition: api_pb2.Sandbox, env: Mapping[str, str], tags: dict[str, str]
    ) -> Machine:
        """Make a sandbox; refuse a name that a living one has, and an image that is not there."""
        if definition.image_id not in self.images:
            raise grpclib.GRPCError(_UNKNOWN, f"Image {definition.image_id} not found")
        number = f"{next(self._numbers):026d}"
        machine = Machine(number, app_id, definition, env, tags, self._folder / number, self._user)
        async with self._naming:
            if definition.name and self.named(app_id, definition.name) is not None:
                raise grpclib.GRPCError(GrpcStatus.ALREADY_EXISTS, f"a sandbox named {definition.name} is running")
            self._machines[machine.sandbox_id] = machine
        try:
            await machine.start(self._backend, self.images[definition.image_id])
        except (SandboxError, OSError, RuntimeError) as error:
            await machine.end(Status.GENERIC_STATUS_INIT_FAILURE, 1)
            raise grpclib.GRPCError(GrpcStatus.INTERNAL, f"the sandbox did not start: {error}") from error
        return machine

    def sandbox(self, sandbox_id: str) -> Machine:
        """Return a sandbox, living or ended."""
        if sandbox_id not in self._machines:
            raise grpclib.GRPCError(_UNKNOWN, f"Sandbox with ID {sandbox_id} not found")
        return self._machines[sandbox_id]

    def task(self, task_id: str) -> Machine:
        """Return a living sandbox by its task."""
        for machine in self.living():
            if machine.task_id == task_id:
                return machine
        raise grpclib.GRPCError(_UNKNOWN, f"Task {task_id} not found")

    def named(self, app_id: str, name: str) -> Machine | None:
        """Return the living sandbox of this name."""
        return next((one for one in self.living() if (one.app_id, one.definition.name) == (app_id, name)), None)

    def living(self) -> Iterator[Machine]:
        """Yield the sandboxes that have not ended, the newest first."""
        return (machine for machine in reversed(list(self._machines.values())) if machine.result is None)

    async def snapshot(self, machine: Machine) -> str:
        """Copy a sandbox's files into a new image."""
        if machine.box is None:
            raise grpclib.GRPCError(_UNKNOWN, f"Sandbox with ID {machine.sandbox_id} not found")
        template = await machine.box.snapshot()
        return self.add_image(template.id)

    def add_image(self, template: str | None) -> str:
        """Register an image; None is the machine's own root file system."""
        identity = f"im-{next(self._numbers):022d}"
        self.images[identity] = template
        return identity

    async def delete_image(self, identity: str) -> None:
        """Forget an image."""
        if identity not in self.images:
            raise grpclib.GRPCError(_UNKNOWN, f"Image {identity} not found")
        template = self.images.pop(identity)
        if template is not None:
            await self._backend.delete_template(template)

    async def close(self) -> None:
        """End all sandboxes."""
        await asyncio.gather(*(machine.end(Status.GENERIC_STATUS_TERMINATED, 137) for machine in self.living()))
