"""Which image a sandbox starts from, built or looked up once; starts nothing."""

import asyncio

import modal

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.errors import CapabilityError, SandboxError, SandboxNotFound, SandboxStartFailed
from tumbler_backends.sandbox.modal.failures import calling
from tumbler_backends.sandbox.modal.settings import ModalSettings

__all__ = ["Images"]


class Images:
    """The images of one backend."""

    def __init__(self, app: modal.App, client: modal.Client, settings: ModalSettings) -> None:
        """Build none yet."""
        self._app = app
        self._client = client
        self._settings = settings
        self._built: dict[str, asyncio.Task[modal.Image]] = {}

    async def image_of(self, spec: SandboxSpec) -> modal.Image:
        """Return the image of a spec, which is there.

        Raises `SandboxNotFound` for a template that is gone, `CapabilityError` for an image that there is not, and
        `SandboxStartFailed` (phase `image`).
        """
        if spec.template is not None:
            return await self._snapshot(spec.template)
        name = spec.image or self._settings.image or ""
        if name not in self._built or _failed(self._built[name]):
            self._built[name] = asyncio.get_running_loop().create_task(self._build(name))
        return await asyncio.shield(self._built[name])

    async def close(self) -> None:
        """End what is still being built."""
        for task in self._built.values():
            task.cancel()
        await asyncio.gather(*self._built.values(), return_exceptions=True)

    async def _snapshot(self, identity: str) -> modal.Image:
        if not identity.startswith("im-"):
            raise SandboxNotFound(f"there is no template {identity!r}: Modal's begin with 'im-'")
        async with calling(f"look up the template {identity!r}", self._settings.request_timeout):
            return await modal.Image.from_id(identity, client=self._client).build.aio(self._app)

    async def _build(self, name: str) -> modal.Image:
        try:
            async with calling(f"build the image {name or 'debian_slim'!r}", self._settings.image_timeout):
                image = modal.Image.from_registry(name) if name else modal.Image.debian_slim()
                if self._settings.setup:
                    image = image.dockerfile_commands(list(self._settings.setup))
                return await image.build.aio(self._app)
        except SandboxError as error:
            if error.retryable:
                raise
            if isinstance(error, SandboxNotFound):
                raise CapabilityError(f"there is no image {name!r}: {error}") from error
            raise SandboxStartFailed(str(error), "image") from error


def _failed(task: "asyncio.Task[modal.Image]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
