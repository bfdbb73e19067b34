"""Take hold of a running container through its engine alone; makes none."""

from collections.abc import Callable
from pathlib import Path

from tumbler.contracts.sandbox import IsolationTier
from tumbler_backends.sandbox.docker.cloud import DockerCloud
from tumbler_backends.sandbox.docker.container import Container, State
from tumbler_backends.sandbox.docker.control import Controlled
from tumbler_backends.sandbox.docker.engine import Engine
from tumbler_backends.sandbox.docker.hardening import ENVIRONMENT, HOME
from tumbler_backends.sandbox.docker.images import Image
from tumbler_backends.sandbox.docker.owned import Keeper, OwnedSandbox
from tumbler_backends.sandbox.docker.owners import Record
from tumbler_backends.sandbox.docker.remote import RemoteLife, RemoteSandbox
from tumbler_backends.sandbox.docker.settings import DockerSettings
from tumbler_backends.sandbox.docker.users import find_user

__all__ = ["RemoteHolder"]


class RemoteHolder:
    """Holds the containers of one owner on an engine that may be anywhere."""

    local = False

    def __init__(
        self,
        engine: Engine,
        settings: DockerSettings,
        *,
        root: Path,
        tier: IsolationTier,
        keeper: Keeper,
        kept: Callable[[Record], None],
    ) -> None:
        """Hold nothing yet; `kept` is called with each record that changes."""
        self._engine = engine
        self._settings = settings
        self._root = root
        self._tier: IsolationTier = tier
        self._keeper = keeper
        self._kept = kept

    async def hold(self, container: Container, state: State, record: Record, image: Image) -> RemoteSandbox:
        """Watch a container, and start commands in it by the engine's own means."""
        spec = record.spec
        user = find_user(spec.user or self._settings.user, lambda _: "", HOME)
        environment = {**ENVIRONMENT, "USER": user[2], **image.env, **spec.env}
        life = RemoteLife(record.id, spec, self._settings, container)
        cloud = DockerCloud(self._engine, container.id, life, f"{user[0]}:{user[1]}", environment)
        controlled = Controlled(
            container=container,
            record=record,
            tier=self._tier,
            network=None,
            modes=("none",),
            names={},
            places=(),
            disk_bytes=_unknown,
            keep=self._kept,
        )
        return RemoteSandbox(life, cloud, controlled, self._keeper)

    async def let_go(self, sandbox: OwnedSandbox) -> None:
        """Stop watching a sandbox; its container stays."""
        await sandbox.life.close()

    async def close(self) -> None:
        """Do nothing: what is held is let go one by one."""


def _unknown() -> None:
    """Return what is known of disk use that nothing measures."""
