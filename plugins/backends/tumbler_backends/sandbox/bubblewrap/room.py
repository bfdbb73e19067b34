"""What the processes of one sandbox share while any of them runs: a network and a mounted root.

An idle sandbox has neither: both are kept for a moment after the last use, then closed, and made
anew by the next one. A room that must not forget (its files live in memory) stays until it is closed.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tumbler.errors import QuotaExceeded, SandboxDied, SandboxStartFailed
from tumbler_backends.sandbox.bubblewrap.filesystem.mounting import MountPlan, assemble, make_places, seal_devices
from tumbler_backends.sandbox.bubblewrap.network import Network
from tumbler_backends.sandbox.egress.network_namespace import (
    NamespaceDescriptors,
    enter_words,
    make_namespaces,
    run_in_namespaces,
)

__all__ = ["LINGER_S", "OpenRoom", "Room"]

LINGER_S: Final = 1.0
"""How long an unused room stays, to spare its making for the next command."""
_ASSEMBLE: Final = "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); import {module}; {module}.main()"
_ASSEMBLE_S: Final = 30.0
_NO_SPACE: Final = 28


@dataclass(frozen=True, kw_only=True)
class OpenRoom:
    """A room that is there."""

    namespaces: NamespaceDescriptors
    words: tuple[str, ...]
    """What stands in front of a command that is to run in it."""
    root: int | None
    """A descriptor of the mounted root; None where the root is no mount."""
    layer: int | None
    """A descriptor of the folder that takes the changes to the mounted root."""

    def close(self) -> None:
        """Let go of it; what still runs in it goes on."""
        self.namespaces.close()
        for descriptor in (self.root, self.layer):
            if descriptor is not None:
                os.close(descriptor)


class Room:
    """Opened by the first `acquire`, closed a moment after the last `release`."""

    def __init__(self, plan: MountPlan | None, network: Network, *, keeps: bool = False) -> None:
        """Plan it.

        Args:
            plan: the root to mount; None where the sandbox's root is no mount of its own.
            network: the way out.
            keeps: whether it stays open until `close`, because its files live in memory.
        """
        self._plan = plan
        self._network = network
        self._keeps = keeps
        self._open: OpenRoom | None = None
        self._users = 0
        self._opening = asyncio.Lock()
        self._closer: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def namespaces(self) -> NamespaceDescriptors | None:
        """Return the namespaces, where they are open."""
        return self._open.namespaces if self._open is not None else None

    async def acquire(self) -> tuple[Sequence[str], Sequence[int]]:
        """Open the room where it is closed; return the words to put before bwrap, and descriptors to pass on.

        Raises `SandboxStartFailed` (phase `create`) or `QuotaExceeded` where it cannot be made.
        """
        return (await self.enter()).words, ()

    async def enter(self) -> OpenRoom:
        """Do as `acquire` does, and return the room; `release` it as often."""
        self._users += 1
        try:
            if self._open is None:
                async with self._opening:
                    if self._closed:
                        raise SandboxDied("the sandbox is gone: it was deleted while a command started")
                    if self._open is None:
                        self._open = await self._make()
                    if self._closed:
                        if (room := self._take()) is not None:
                            await self._network.close()
                            room.close()
                        raise SandboxDied("the sandbox is gone: it was deleted while a command started")
            elif self._plan is not None and self._open.root is not None:
                make_places(self._plan, self._open.root)  # a command may have removed them
        except BaseException:
            self.release()
            raise
        return self._open

    def release(self) -> None:
        """Say that one use is over."""
        self._users -= 1
        if self._users == 0 and self._open is not None and not self._keeps:
            if self._closer is not None:
                self._closer.cancel()
            self._closer = asyncio.get_running_loop().call_later(LINGER_S, self._close_unused)

    @contextlib.asynccontextmanager
    async def entered(self) -> AsyncIterator[OpenRoom]:
        """Hold the room open for a while."""
        room = await self.enter()
        try:
            yield room
        finally:
            self.release()

    async def leave(self) -> None:
        """Close it for good. Safe to call twice."""
        self._closed = True
        await self._shut()
        if self._closing:
            await asyncio.wait(self._closing)

    def close(self) -> None:
        """Close what can be without an event loop: the way out when the interpreter ends."""
        self._closed = True
        if (room := self._take()) is not None:
            room.close()

    def _close_unused(self) -> None:
        self._closer = None
        if self._users == 0:
            task = asyncio.get_running_loop().create_task(self._shut())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _shut(self) -> None:
        async with self._opening:
            room = self._take() if self._closed or self._users == 0 else None
            if room is not None:
                await self._network.close()
                # Unmounting takes a while where much lies in memory.
                await asyncio.shield(asyncio.to_thread(room.close))

    def _take(self) -> OpenRoom | None:
        if self._closer is not None:
            self._closer.cancel()
            self._closer = None
        room, self._open = self._open, None
        return room

    async def _make(self) -> OpenRoom:
        making = asyncio.ensure_future(asyncio.to_thread(_make_room, self._plan))
        try:
            room = await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(_discard)
            raise
        except OSError as error:
            said = f"the sandbox's root file system could not be put together: {error}"
            if error.errno == _NO_SPACE:
                raise QuotaExceeded(said) from error
            raise SandboxStartFailed(said, "create") from error
        try:
            await self._network.open(room.namespaces)
        except BaseException:
            await self._network.close()
            room.close()
            raise
        return room


def _discard(making: "asyncio.Future[OpenRoom]") -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().close()


def _make_room(plan: MountPlan | None) -> OpenRoom:
    namespaces = make_namespaces(
        mount=plan is not None or os.geteuid() == 0, prepare=seal_devices if plan is None else None
    )
    try:
        words = tuple(enter_words(namespaces))
        root, layer = (None, None) if plan is None else _mount_root(plan, namespaces, words)
    except BaseException:
        namespaces.close()
        raise
    return OpenRoom(namespaces=namespaces, words=words, root=root, layer=layer)


def _mount_root(plan: MountPlan, namespaces: NamespaceDescriptors, words: Sequence[str]) -> tuple[int, int]:
    if namespaces.user is None:
        return run_in_namespaces(namespaces, lambda: assemble(plan))
    return _mount_by_program(plan, words)


def _mount_by_program(plan: MountPlan, words: Sequence[str]) -> tuple[int, int]:
    """Let a program in the user namespace mount the root, and take a descriptor of it from outside."""
    import json

    module = assemble.__module__
    command = [*words, sys.executable, "-I", "-c", _ASSEMBLE.format(module=module), plan.text(), json.dumps(sys.path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={}
    ) as process:
        if process.stdout is None or process.stderr is None:
            raise OSError("a program without pipes")
        try:
            if process.stdout.readline() != b"ready\n":
                said = process.stderr.read(1 << 14).decode(errors="replace").strip().splitlines()
                raise SandboxStartFailed(
                    f"the sandbox's root file system could not be mounted: {said[-1] if said else 'no reason given'}",
                    "create",
                )
            root, layer = (Path(f"/proc/{process.pid}/root{path}") for path in (plan.root, plan.upper or plan.root))
            flags = os.O_DIRECTORY | os.O_CLOEXEC
            return os.open(root, flags | os.O_PATH), os.open(layer, flags)
        finally:
            process.kill()
