"""Say what a sandbox or a backend can do beyond the basic protocols, or why it cannot; calls nothing."""

from tumbler.contracts.sandbox import Sandbox, SandboxBackend
from tumbler.contracts.sandbox_control import CompleteSandbox, ManagedBackend
from tumbler.errors import CapabilityError

__all__ = ["complete_sandbox", "managed_backend"]


def managed_backend(backend: SandboxBackend) -> ManagedBackend:
    """Return the backend as one that finds its sandboxes again; raise `CapabilityError` where it is none."""
    if isinstance(backend, ManagedBackend):
        return backend
    raise CapabilityError(_lacking(backend, ManagedBackend))


def complete_sandbox(sandbox: Sandbox) -> CompleteSandbox:
    """Return the sandbox as one with every ability; raise `CapabilityError` where it is none."""
    if isinstance(sandbox, CompleteSandbox):
        return sandbox
    raise CapabilityError(_lacking(sandbox, CompleteSandbox))


def _lacking(thing: object, contract: type) -> str:
    members = {name for base in contract.__mro__ for name in vars(base) if not name.startswith("_")}
    missing = sorted(name for name in members if not hasattr(thing, name))
    return (
        f"{type(thing).__name__} offers only a part of {contract.__name__}; it lacks: {', '.join(missing)}. "
        "Use a backend that has them, such as bubblewrap"
    )
