"""Take hold of a running container of this machine: namespaces, cgroups, files, network; makes none."""

import asyncio
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox import IsolationTier, SandboxSpec
from tumbler.errors import SandboxDied
from tumbler_backends.sandbox.docker.box import Box
from tumbler_backends.sandbox.docker.container import Container, State
from tumbler_backends.sandbox.docker.control import Controlled
from tumbler_backends.sandbox.docker.filters import read_filters, stricter_filter
from tumbler_backends.sandbox.docker.hardening import ENVIRONMENT, HOME, resources_of, writable_folders
from tumbler_backends.sandbox.docker.images import Image
from tumbler_backends.sandbox.docker.launcher import Request
from tumbler_backends.sandbox.docker.launching import Launcher
from tumbler_backends.sandbox.docker.local import LocalPlace
from tumbler_backends.sandbox.docker.network import ContainerNetwork
from tumbler_backends.sandbox.docker.owned import Keeper, OwnedSandbox
from tumbler_backends.sandbox.docker.owners import Record
from tumbler_backends.sandbox.docker.sandbox import DockerSandbox
from tumbler_backends.sandbox.docker.settings import DockerSettings
from tumbler_backends.sandbox.docker.tree import ContainerTree
from tumbler_backends.sandbox.docker.users import User, find_user, reader_of
from tumbler_backends.sandbox.egress.egress_log import EgressLog

__all__ = ["CONTROL", "LocalHolder"]

CONTROL: Final = "control"
"""The folder of a sandbox's pipes, below the sandbox's own on this machine."""


class LocalHolder:
    """Holds the containers of one owner on this machine; for root."""

    local = True

    def __init__(
        self,
        settings: DockerSettings,
        *,
        root: Path,
        tier: IsolationTier,
        modes: tuple[str, ...],
        keeper: Keeper,
        kept: Callable[[Record], None],
    ) -> None:
        """Hold nothing yet; `kept` is called with each record that changes."""
        self._settings = settings
        self._root = root
        self._tier: IsolationTier = tier
        self._modes = modes
        self._keeper = keeper
        self._kept = kept
        self._log = EgressLog(settings.egress_log)
        self._launchers = asyncio.Lock()
        self._launcher: Launcher | None = None

    async def hold(self, container: Container, state: State, record: Record, image: Image) -> DockerSandbox:
        """Open a running container's namespaces, cgroups and files."""
        spec = record.spec
        control = self._root / record.maker / record.id / CONTROL
        try:
            launcher = await self._launching(state.pid)
            place = LocalPlace(state.pid, control, self._request(spec, state), launcher)
        except OSError as error:
            raise SandboxDied(f"sandbox {record.id} ended before it could be used: {error}", "killed") from error
        try:
            user = find_user(spec.user or self._settings.user, reader_of(place.root), HOME)
            place.become(user[0], user[1])
            network = ContainerNetwork(
                state.pid,
                log=self._log,
                sandbox=record.id,
                trajectory=spec.labels.get("trajectory"),
                names=self._settings.hosts,
            )
        except BaseException:
            await place.close()
            raise
        environment = {**ENVIRONMENT, "USER": user[2], "HOME": _home(user, self._settings), **image.env, **spec.env}
        box = Box(record.id, spec, place, environment, self._settings)
        tree = ContainerTree(place.root, box.workdir, user[0], user[1])
        in_memory = self._settings.root_filesystem == "read-only"
        controlled = Controlled(
            container=container,
            record=record,
            tier=self._tier,
            network=network,
            modes=self._modes,
            names=self._settings.hosts,
            places=writable_folders(spec) if in_memory else (),
            disk_bytes=(lambda: tree.disk_bytes(writable_folders(spec))) if in_memory else _unknown,
            keep=self._kept,
        )
        return DockerSandbox(box, tree, controlled, self._keeper)

    async def let_go(self, sandbox: OwnedSandbox) -> None:
        """Close what was opened of a sandbox; its container stays."""
        network = sandbox.controlled.network
        if network is not None:
            await network.close()
            self._log.forget(sandbox.id)
        await sandbox.life.close()

    async def close(self) -> None:
        """End the launcher."""
        launcher, self._launcher = self._launcher, None
        if launcher is not None:
            await launcher.close()
        self._log.close()

    async def _launching(self, pid: int) -> Launcher:
        """Return the launcher, started anew where it has ended; the seccomp filters are those of process `pid`."""
        async with self._launchers:
            if self._launcher is None or not self._launcher.open:
                filters = await asyncio.to_thread(read_filters, pid)
                self._launcher = Launcher([*filters, stricter_filter()])
            return self._launcher

    def _request(self, spec: SandboxSpec, state: State) -> Request:
        """Return what all commands of a sandbox have in common."""
        limits = resources_of(spec, self._settings)
        files = limits.open_files or self._settings.open_files
        security = {"apparmor/exec": f"exec {state.apparmor}"} if state.apparmor not in {"", "unconfined"} else {}
        if state.selinux:
            security["exec"] = state.selinux
        return Request(
            argv=[],
            env={},
            cwd="/",
            user=-1,
            group=-1,
            groups=[],
            limits=[
                (resource.RLIMIT_NOFILE, files, files),
                (resource.RLIMIT_FSIZE, self._settings.file_bytes, self._settings.file_bytes),
                (resource.RLIMIT_CORE, 0, 0),
            ],
            cgroups=[],
            security=security,
            terminal=None,
        )


def _unknown() -> None:
    """Return what is known of disk use that nothing measures."""


def _home(user: User, settings: DockerSettings) -> str:
    """Return the home folder: the image's own one is of use only where it can be written."""
    return user[3] if settings.root_filesystem == "writable" else HOME
