"""The sandboxes of one backend instance, found by id, name and key; a name is taken before its sandbox is made."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeAlias

from tumbler.errors import SandboxNameTaken, SandboxNotFound
from tumbler_backends.sandbox.docker.owned import OwnedSandbox
from tumbler_backends.sandbox.docker.remote import RemoteSandbox
from tumbler_backends.sandbox.docker.sandbox import DockerSandbox

__all__ = ["AnySandbox", "Living"]

AnySandbox: TypeAlias = DockerSandbox | RemoteSandbox


class Living:
    """An index of living sandboxes."""

    def __init__(self) -> None:
        """Know none."""
        self._sandboxes: dict[str, AnySandbox] = {}
        self._names: set[str] = set()
        self._keys: dict[str, asyncio.Task[AnySandbox]] = {}

    def __len__(self) -> int:
        """Return how many live."""
        return len(self._sandboxes)

    def __iter__(self) -> Iterator[AnySandbox]:
        """Yield them, oldest first; the index may change meanwhile."""
        return iter(tuple(self._sandboxes.values()))

    def __contains__(self, identity: str) -> bool:
        """Tell whether a sandbox of this id lives."""
        return identity in self._sandboxes

    def get(self, identity: str) -> AnySandbox:
        """Return one by id or name; raise `SandboxNotFound`."""
        for sandbox in self._sandboxes.values():
            if identity in (sandbox.id, sandbox.spec.name):
                return sandbox
        raise SandboxNotFound(f"this owner has no living sandbox with the id or name {identity!r}")

    def add(self, sandbox: AnySandbox) -> None:
        """Take one in."""
        self._sandboxes[sandbox.id] = sandbox
        if sandbox.spec.name is not None:
            self._names.add(sandbox.spec.name)

    def remove(self, sandbox: OwnedSandbox) -> bool:
        """Let one go; return False where it was not there."""
        if self._sandboxes.pop(sandbox.id, None) is None:
            return False
        self._names.discard(sandbox.spec.name or "")
        for key, task in tuple(self._keys.items()):
            if task.done() and not task.cancelled() and task.exception() is None and task.result() is sandbox:
                del self._keys[key]
        return True

    @contextlib.contextmanager
    def named(self, name: str | None) -> Iterator[None]:
        """Hold a name while its sandbox is made; raise `SandboxNameTaken` where it is taken."""
        if name is None:
            yield
            return
        if name in self._names:
            raise SandboxNameTaken(
                f"the name {name!r} belongs to a living sandbox: delete that one, or use another name"
            )
        self._names.add(name)
        try:
            yield
        except BaseException:
            self._names.discard(name)
            raise

    async def once(self, key: str, make: Callable[[], Awaitable[AnySandbox]]) -> AnySandbox:
        """Return the sandbox of an idempotency key, made where there is none; it is made on when a caller is gone."""
        task = self._keys.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(_made(make))
            self._keys[key] = task
            task.add_done_callback(lambda done: self._forget_failed(key, done))
        return await asyncio.shield(task)

    def _forget_failed(self, key: str, task: "asyncio.Task[AnySandbox]") -> None:
        if task.cancelled() or task.exception() is not None:
            self._keys.pop(key, None)


async def _made(make: Callable[[], Awaitable[AnySandbox]]) -> AnySandbox:
    return await make()
