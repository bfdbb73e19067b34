"""Modal's control plane: the client, the app, and all sandboxes in it; owns none."""

import math
from collections.abc import AsyncIterator, Mapping
from typing import Final

import modal
from modal.config import config
from modal.experimental import image_delete

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.errors import SandboxNotFound, SandboxUnavailable
from tumbler_backends.sandbox.modal.failures import calling
from tumbler_backends.sandbox.modal.images import Images
from tumbler_backends.sandbox.modal.lease import lease_words
from tumbler_backends.sandbox.modal.settings import ModalSettings

__all__ = ["Account"]

_MEBIBYTE: Final = 1 << 20
_ADVICE: Final = (
    "run `modal token new`, which opens a browser and writes ~/.modal.toml, or set MODAL_TOKEN_ID and "
    "MODAL_TOKEN_SECRET to a token made at https://modal.com/settings/tokens"
)


class Account:
    """An open connection to Modal, with one app."""

    def __init__(self, client: modal.Client, app: modal.App, settings: ModalSettings, *, owned: bool) -> None:
        """Take over a client that is open; `owned` says whether to close it."""
        self.client = client
        self.images = Images(app, client, settings)
        self._app = app
        self._settings = settings
        self._owned = owned

    @classmethod
    async def open(cls, settings: ModalSettings) -> "Account":
        """Connect, and find or make the app; raise `SandboxUnavailable` that says how to mend what is missing."""
        identity, secret = config.get("token_id"), config.get("token_secret")
        by_token = bool(identity and secret)
        if not by_token and not config.get("oauth_refresh_token"):
            raise SandboxUnavailable(f"there are no credentials for Modal: {_ADVICE}")
        async with calling("connect to Modal", settings.request_timeout):
            # Modal's own client for the whole process would outlive this backend, and keep its first address.
            client = await (
                modal.Client.from_credentials.aio(identity, secret) if by_token else modal.Client.from_env.aio()
            )
            try:
                app = await modal.App.lookup.aio(
                    settings.app, create_if_missing=True, client=client, environment_name=settings.environment
                )
            except BaseException:
                if by_token:
                    await client.close.aio()
                raise
        return cls(client, app, settings, owned=by_token)

    async def close(self) -> None:
        """Let go of the connection."""
        await self.images.close()
        if self._owned:
            async with calling("close the connection to Modal", self._settings.request_timeout):
                await self.client.close.aio()

    async def create(self, spec: SandboxSpec, image: modal.Image, tags: Mapping[str, str]) -> modal.Sandbox:
        """Make a sandbox."""
        settings, asked = self._settings, spec.resources
        memory = math.ceil(asked.memory_bytes / _MEBIBYTE) if asked.memory_bytes is not None else None
        async with calling(f"create the sandbox {spec.name or ''!r}", spec.startup_timeout):
            return await modal.Sandbox.create.aio(
                *lease_words(spec.ttl),
                app=self._app,
                client=self.client,
                name=spec.name,
                tags=dict(tags),
                image=image,
                env=dict(spec.env),
                workdir=spec.workdir,
                timeout=math.ceil(settings.max_lifetime),
                idle_timeout=math.ceil(spec.idle_ttl) if spec.idle_ttl is not None else None,
                cpu=(asked.cpus, asked.cpus) if asked.cpus is not None else None,
                memory=(memory, memory) if memory is not None else None,
                region=settings.region,
                cloud=settings.cloud,
                encrypted_ports=settings.ports if settings.encrypted_ports else (),
                unencrypted_ports=() if settings.encrypted_ports else settings.ports,
                runtime=settings.tier if settings.tier in ("gvisor", "vm") else None,
                block_network=self._blocked(spec),
                outbound_cidr_allowlist=None if self._open(spec) else list(spec.network.cidrs),
                outbound_domain_allowlist=list(spec.network.hosts) or None,
            )

    async def find(self, identity: str) -> modal.Sandbox:
        """Return a living sandbox by id or name; raise `SandboxNotFound`."""
        async with calling(f"look up the sandbox {identity!r}", self._settings.request_timeout):
            found = await (
                modal.Sandbox.from_id.aio(identity, client=self.client)
                if identity.startswith("sb-")
                else modal.Sandbox.from_name.aio(
                    self._settings.app, identity, environment_name=self._settings.environment, client=self.client
                )
            )
            if await found.poll.aio() is not None:
                raise SandboxNotFound(f"the sandbox {identity!r} does not live any more")
            return found

    async def living(self, tags: Mapping[str, str]) -> AsyncIterator[tuple[modal.Sandbox, dict[str, str]]]:
        """Yield the app's living sandboxes that have all these tags, and their tags."""
        async with calling("list the sandboxes", self._settings.request_timeout):
            found = [
                sandbox
                async for sandbox in modal.Sandbox.list.aio(
                    app_id=self._app.app_id, tags=dict(tags), client=self.client
                )
            ]
        for sandbox in found:
            try:
                async with calling("read a sandbox's tags", self._settings.request_timeout):
                    yield sandbox, await sandbox.get_tags.aio()
            except SandboxNotFound:  # it has ended meanwhile
                continue

    async def terminate(self, sandbox: modal.Sandbox) -> None:
        """End a sandbox that nobody here holds."""
        async with calling("terminate a sandbox", self._settings.request_timeout):
            await sandbox.terminate.aio()
        await self.let_go(sandbox)

    async def let_go(self, sandbox: modal.Sandbox) -> None:
        """Close the connection to a sandbox, and leave it alone."""
        async with calling("detach from a sandbox", self._settings.request_timeout):
            await sandbox.detach.aio()  # type: ignore[no-untyped-call]  # Modal gives it no types

    async def delete_image(self, identity: str) -> None:
        """Remove an image."""
        async with calling(f"delete the template {identity!r}", self._settings.request_timeout):
            await image_delete.aio(identity, client=self.client)  # pyright: ignore[reportFunctionMemberAccess]  # it is made by a decorator

    def _blocked(self, spec: SandboxSpec) -> bool:
        """Tell whether Modal is to block the network in both directions, which shuts exposed ports, too."""
        return spec.network.mode == "none" and not self._settings.ports

    def _open(self, spec: SandboxSpec) -> bool:
        """Tell whether no list of addresses is to be given; an empty one lets nothing out."""
        return spec.network.mode == "public" or self._blocked(spec)
