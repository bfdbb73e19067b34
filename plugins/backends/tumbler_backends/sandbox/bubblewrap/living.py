"""The sandboxes of one backend instance, found by id, name and key, each in constant time."""

import asyncio
from collections.abc import Iterator

from tumbler.errors import SandboxNameTaken, SandboxNotFound
from tumbler_backends.sandbox.bubblewrap.sandbox import BubblewrapSandbox

__all__ = ["Living"]


class Living:
    """An index; a name is taken from the moment its sandbox is asked for."""

    def __init__(self) -> None:
        """Know none."""
        self._sandboxes: dict[str, BubblewrapSandbox] = {}
        self._names: dict[str, str] = {}
        self._keys: dict[str, asyncio.Future[BubblewrapSandbox]] = {}
        self._keys_of: dict[str, str] = {}

    def __len__(self) -> int:
        """Return how many live."""
        return len(self._sandboxes)

    def __iter__(self) -> Iterator[BubblewrapSandbox]:
        """Yield them, oldest first; the index may change meanwhile."""
        return iter(tuple(self._sandboxes.values()))

    def get(self, identity: str) -> BubblewrapSandbox:
        """Return one by id or name; raises `SandboxNotFound`."""
        sandbox = self._sandboxes.get(self._names.get(identity, identity))
        if sandbox is None:
            raise SandboxNotFound(f"this owner has no living sandbox with the id or name {identity!r}")
        return sandbox

    def find(self, identity: str) -> BubblewrapSandbox | None:
        """Return one by id, if it lives."""
        return self._sandboxes.get(identity)

    def take_name(self, name: str | None, identity: str) -> None:
        """Keep a name for a sandbox that is being made; raises `SandboxNameTaken` where it is taken."""
        if name is None:
            return
        if name in self._names:
            raise SandboxNameTaken(
                f"the name {name!r} belongs to sandbox {self._names[name]}: delete that one, or use another name"
            )
        self._names[name] = identity

    def give_name_back(self, name: str | None, identity: str) -> None:
        """Let others have the name, if this sandbox has it."""
        if name is not None and self._names.get(name) == identity:
            del self._names[name]

    def made_for(self, key: str) -> "asyncio.Future[BubblewrapSandbox] | None":
        """Return the sandbox that an idempotency key stands for; it may still be being made."""
        return self._keys.get(key)

    def keep_key(self, key: str, made: "asyncio.Future[BubblewrapSandbox]") -> None:
        """Let a key stand for a sandbox that is being made, for as long as it lives."""
        self._keys[key] = made

        def settle(_: "asyncio.Future[BubblewrapSandbox]") -> None:
            if made.cancelled() or made.exception() is not None:
                self._keys.pop(key, None)
            else:
                self._keys_of[made.result().id] = key

        made.add_done_callback(settle)

    def add(self, sandbox: BubblewrapSandbox) -> None:
        """Take one in, with its name."""
        self._sandboxes[sandbox.id] = sandbox
        if (name := sandbox.spec.name) is not None:
            self._names[name] = sandbox.id

    def remove(self, identity: str) -> None:
        """Let one go, with its name and its key. Safe to call twice."""
        sandbox = self._sandboxes.pop(identity, None)
        if sandbox is not None:
            self.give_name_back(sandbox.spec.name, identity)
        if (key := self._keys_of.pop(identity, None)) is not None:
            self._keys.pop(key, None)
