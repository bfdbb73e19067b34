"""Copy a sandbox's files into templates and into further sandboxes."""

import asyncio
import contextlib
import errno
from collections.abc import Sequence
from dataclasses import replace

from tumbler.contracts.sandbox_control import TEMPLATE_LIFETIME
from tumbler.errors import QuotaExceeded, SandboxStartFailed
from tumbler_backends.sandbox.bubblewrap.filesystem.finishing import to_the_end
from tumbler_backends.sandbox.bubblewrap.filesystem.templates import StoredTemplate, TemplateStore
from tumbler_backends.sandbox.bubblewrap.making import Maker
from tumbler_backends.sandbox.bubblewrap.room import OpenRoom
from tumbler_backends.sandbox.bubblewrap.sandbox import BubblewrapSandbox

__all__ = ["Copies"]


class Copies:
    """Snapshots and forks."""

    def __init__(self, maker: Maker, templates: TemplateStore) -> None:
        """Make sandboxes with `maker`, and keep templates in `templates`."""
        self._maker = maker
        self._templates = templates

    async def snapshot(self, sandbox: BubblewrapSandbox, *, owned: bool = False) -> StoredTemplate:
        """Copy a sandbox's files into a new template; one that is `owned`, or labelled so, ends with this process.

        Raises `QuotaExceeded` on a full disk and `SandboxStartFailed` (phase `snapshot`) for files that
        cannot be copied.
        """
        storage = sandbox.box.storage
        owned = owned or sandbox.spec.labels.get(TEMPLATE_LIFETIME) == "owner"
        async with contextlib.AsyncExitStack() as stack:
            room = await stack.enter_async_context(storage.room.entered()) if storage.mounted else None
            try:
                return await self._copied(sandbox, room, owned)
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                    raise QuotaExceeded(f"sandbox {sandbox.id} could not be copied: the disk is full: {error}") from (
                        error
                    )
                raise SandboxStartFailed(f"sandbox {sandbox.id} could not be copied: {error}", "snapshot") from error

    async def fork(self, sandbox: BubblewrapSandbox, count: int) -> Sequence[BubblewrapSandbox]:
        """Make `count` sandboxes of the same spec with the same files; either all come up, or none stays."""
        stored = await self.snapshot(sandbox, owned=True)
        spec = replace(sandbox.record.spec, name=None, idempotency_key=None)
        making = [asyncio.ensure_future(self._maker.make(spec, stored)) for _ in range(count)]
        try:
            try:
                await asyncio.gather(*making)
            finally:
                await to_the_end(self._without_template(making, stored.id))
        except BaseException:
            made = [one.result() for one in making if not one.cancelled() and one.exception() is None]
            await asyncio.gather(*(fork.delete() for fork in made))
            raise
        return [one.result() for one in making]

    async def _without_template(self, making: Sequence["asyncio.Future[BubblewrapSandbox]"], identity: str) -> None:
        """Remove a template; where not all that are made from it have come up, none shall come up any more."""
        for one in making:
            one.cancel()
        await asyncio.gather(*making, return_exceptions=True)
        await asyncio.to_thread(self._templates.delete, identity)

    async def _copied(self, sandbox: BubblewrapSandbox, room: OpenRoom | None, owned: bool) -> StoredTemplate:
        """Copy in a thread; where the caller is cancelled, nothing stays of it."""
        copying = asyncio.ensure_future(asyncio.to_thread(self._copy, sandbox, room, owned))
        try:
            return await asyncio.shield(copying)
        except asyncio.CancelledError:
            await asyncio.wait((copying,))
            if copying.exception() is None:
                await asyncio.to_thread(self._templates.delete, copying.result().id)
            raise

    def _copy(self, sandbox: BubblewrapSandbox, room: OpenRoom | None, owned: bool) -> StoredTemplate:
        storage, record = sandbox.box.storage, sandbox.record
        with storage.layer(room) as layer:
            return self._templates.add(
                layer,
                source=sandbox.id,
                image=record.image,
                lower=record.lower,
                labels=sandbox.spec.labels,
                owned=owned,
            )
