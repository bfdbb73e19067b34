"""One container as the engine sees it: made, started, paused, copied, measured, removed; runs no commands."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiodocker
import aiohttp
from aiodocker.types import JSONObject

from tumbler.errors import SandboxDied, SandboxError, SandboxStartFailed, SandboxUnavailable
from tumbler_backends.sandbox.docker.engine import Engine

__all__ = ["Container", "State", "removed_unless_kept"]

_GONE: Final = 404
_BUSY: Final = 409
_ATTEMPTS: Final = 40
_PAUSE_S: Final = 0.25


@dataclass(frozen=True, kw_only=True)
class State:
    """How a container is."""

    running: bool
    paused: bool
    pid: int
    """Of its first process, on the engine's machine; 0 where there is none."""
    oom: bool
    exit_code: int
    apparmor: str
    selinux: str


class Container:
    """A container of one engine, known by its id."""

    def __init__(self, engine: Engine, identity: str) -> None:
        """Know a container that exists."""
        self.id = identity
        self._engine = engine
        self._api = engine.client.containers.container(identity)

    @classmethod
    async def create(cls, engine: Engine, name: str, configuration: JSONObject) -> "Container":
        """Create a container that is not started; raise `SandboxStartFailed`."""
        try:
            made = await engine.ask(engine.client.containers.create(configuration, name=name), "making a container")
        except aiodocker.DockerError as error:
            phase = "image" if error.status == _GONE else "create"
            raise SandboxStartFailed(f"the engine made no container: {error.message}", phase) from error
        return cls(engine, made.id)

    async def start(self) -> None:
        """Start its first process."""
        try:
            await self._engine.ask(self._api.start(), "starting a container")
        except aiodocker.DockerError as error:
            raise SandboxStartFailed(f"the engine could not start the container: {error.message}", "start") from error

    async def state(self) -> State | None:
        """Return how it is; None once it is removed."""
        try:
            shown = await self._engine.ask(self._api.show(), "looking at a container")
        except aiodocker.DockerError as error:
            if error.status == _GONE:
                return None
            raise SandboxUnavailable(f"the engine could not describe a container: {error.message}") from error
        state = shown["State"]
        return State(
            running=bool(state["Running"]),
            paused=bool(state["Paused"]),
            pid=int(state["Pid"]),
            oom=bool(state["OOMKilled"]),
            exit_code=int(state["ExitCode"]),
            apparmor=str(shown.get("AppArmorProfile") or ""),
            selinux=str(shown.get("ProcessLabel") or ""),
        )

    async def remove(self) -> None:
        """Kill it and remove it with all that it holds; one that is gone is no matter."""
        for _ in range(_ATTEMPTS):
            try:
                await self._engine.ask(self._api.delete(force=True, v=True), "removing a container")
            except aiodocker.DockerError as error:
                if error.status == _GONE:
                    return
                if error.status != _BUSY and error.status < 500:
                    raise SandboxUnavailable(f"the engine could not remove a container: {error.message}") from error
            else:
                return
            await asyncio.sleep(_PAUSE_S)
        raise SandboxUnavailable(f"the engine could not remove container {self.id}: it is busy")

    async def pause(self) -> None:
        """Freeze all its processes."""
        await self._steer(self._api.pause(), "pausing a container")

    async def unpause(self) -> None:
        """Let them go on."""
        await self._steer(self._api.unpause(), "resuming a container")

    async def ended(self) -> None:
        """Return once its first process has ended, or it is removed; an engine that is away is asked again."""
        while True:
            with contextlib.suppress(SandboxError):
                state = await self.state()
                if state is None or not state.running:
                    return
            with contextlib.suppress(aiodocker.DockerError, aiohttp.ClientError, OSError):
                await self._api.wait()
            await asyncio.sleep(_PAUSE_S)

    async def statistics(self) -> Mapping[str, Any]:
        """Return what the engine measures."""
        try:
            (found,) = await self._engine.ask(self._api.stats(stream=False), "measuring a container")
        except (aiodocker.DockerError, ValueError) as error:
            raise SandboxUnavailable(f"the engine could not measure container {self.id}: {error}") from error
        return dict(found)

    async def commit(self, repository: str, tag: str, labels: Mapping[str, str]) -> str:
        """Make an image of its own file system, without what is mounted; return the image's id."""
        configuration = {"Labels": dict(labels)}
        try:
            made = await self._engine.ask(
                self._api.commit(repository=repository, tag=tag, config=configuration), "copying a container", long=True
            )
        except aiodocker.DockerError as error:
            raise SandboxError(f"the engine could not copy container {self.id}: {error.message}") from error
        return str(made["Id"])

    async def extract(self, folder: str, archive: AsyncIterator[bytes]) -> None:
        """Unpack a tar into a folder of its own file system."""
        path = f"containers/{self.id}/archive"
        try:
            async with self._engine.stream("PUT", path, params={"path": folder}, data=archive):
                return
        except aiodocker.DockerError as error:
            raise SandboxError(f"the engine could not unpack files into {folder}: {error.message}") from error

    async def _steer(self, request: Awaitable[None], doing: str) -> None:
        try:
            await self._engine.ask(request, doing)
        except aiodocker.DockerError as error:
            if error.status == _GONE:
                raise SandboxDied(f"container {self.id} is gone", "killed") from error
            if error.status != _BUSY:  # it is so already
                raise SandboxUnavailable(f"the engine failed while {doing}: {error.message}") from error


@contextlib.asynccontextmanager
async def removed_unless_kept(container: Container) -> AsyncIterator[None]:
    """Remove a container where the body fails, or is cancelled."""
    try:
        yield
    except BaseException:
        removal = asyncio.ensure_future(container.remove())
        with contextlib.suppress(SandboxError, asyncio.CancelledError):
            await asyncio.shield(removal)
        raise
