"""What works on any sandbox backend: opening one, pools, transfers, patterns, and a façade without `async`.

Nothing here is imported before it is used, so that `import tumbler.sandboxes` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tumbler.sandboxes.archives import unpack
    from tumbler.sandboxes.narrowing import complete_sandbox, managed_backend
    from tumbler.sandboxes.open import open_backend
    from tumbler.sandboxes.pool import PoolCounts, SandboxPool
    from tumbler.sandboxes.search import glob, read_text, write_text
    from tumbler.sandboxes.sync import SyncBackend, SyncProcess, SyncSandbox, SyncSession, cleanup
    from tumbler.sandboxes.transfer import Transfer, download, upload

__all__ = [
    "PoolCounts",
    "SandboxPool",
    "SyncBackend",
    "SyncProcess",
    "SyncSandbox",
    "SyncSession",
    "Transfer",
    "cleanup",
    "complete_sandbox",
    "download",
    "glob",
    "managed_backend",
    "open_backend",
    "read_text",
    "unpack",
    "upload",
    "write_text",
]

_MODULES = {
    "PoolCounts": "pool",
    "SandboxPool": "pool",
    "SyncBackend": "sync",
    "SyncProcess": "sync",
    "SyncSandbox": "sync",
    "SyncSession": "sync",
    "Transfer": "transfer",
    "cleanup": "sync",
    "complete_sandbox": "narrowing",
    "download": "transfer",
    "glob": "search",
    "managed_backend": "narrowing",
    "open_backend": "open",
    "read_text": "search",
    "unpack": "archives",
    "upload": "transfer",
    "write_text": "search",
}
"""Public name → the module that holds it."""


def __getattr__(name: str) -> object:
    """Import what is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
