"""The sandbox of one episode: made with its labels, and deleted whatever happens. Knows no environment."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import AsyncExitStack

from tumbler.contracts.sandbox import NetworkPolicy, Sandbox, SandboxBackend, SandboxSpec
from tumbler.errors import ContractError

__all__ = ["carry_through", "describe_network", "open_sandbox"]

_LOG = logging.getLogger("tumbler.rollout")
_CLEAN_UP_SECONDS = 60.0


async def open_sandbox(
    backend: SandboxBackend | None, spec: SandboxSpec, *, environment: str, stack: AsyncExitStack
) -> Sandbox:
    """Create a sandbox that is deleted when `stack` unwinds; `environment` is who asks for it.

    Raises `ContractError` where the run names no sandbox backend.
    """
    if backend is None:
        raise ContractError(
            f"environment {environment!r} needs a sandbox and the run names no sandbox "
            'backend; add one: backends = { sandbox = "bubblewrap", ... }'
        )
    sandbox = await backend.create(spec)

    async def delete() -> None:
        await carry_through(sandbox.delete(), f"the removal of sandbox {sandbox.id}")

    stack.push_async_callback(delete)
    return sandbox


async def carry_through(work: Coroutine[object, object, None], what: str) -> None:
    """Await clean-up although the caller is being cancelled; what hangs is left to its owner's sweep."""
    working = asyncio.ensure_future(work)
    try:
        await _bounded(working, what)
    except asyncio.CancelledError:
        await _bounded(working, what)
        raise


def describe_network(policy: NetworkPolicy) -> str:
    """Return a network policy in words."""
    return " ".join([policy.mode, *policy.hosts, *policy.cidrs]) if policy.mode == "allowlist" else policy.mode


async def _bounded(working: "asyncio.Future[None]", what: str) -> None:
    done, _ = await asyncio.wait([working], timeout=_CLEAN_UP_SECONDS)
    if not done:
        _LOG.warning("%s did not end within %g s", what, _CLEAN_UP_SECONDS)
    else:
        working.result()
