"""Commands that are waited for, by an id of ours: a broken connection is taken up again, a cancelled wait kills."""

import asyncio
import contextlib
from typing import Final

from tumbler.contracts.sandbox import ExecResult
from tumbler.errors import SandboxError
from tumbler_backends.sandbox.remote.scope import Scope
from tumbler_backends.sandbox.wire.answers import ExecAnswer
from tumbler_backends.sandbox.wire.requests import ExecBody, RunBody

__all__ = ["run"]

_GRACE_S: Final = 10.0
"""Seconds beyond its time-out that a command may take to be killed."""
_CANCEL_S: Final = 30.0


async def run(scope: Scope, path: str, body: ExecBody | RunBody) -> ExecResult:
    """Run a command at `path` below the scope and return its result."""
    try:
        response = await scope.ask("POST", path, body=body, seconds=body.timeout + _GRACE_S, repeat=True, pinned=True)
    except asyncio.CancelledError:
        await _cancel(scope, f"{path}/{body.exec_id}")
        raise
    return ExecAnswer.model_validate_json(response.content).value()


async def _cancel(scope: Scope, path: str) -> None:
    """Kill the command, whatever happens to the waiter meanwhile."""
    killing = asyncio.ensure_future(scope.ask("DELETE", path, seconds=_CANCEL_S, repeat=True))
    # A second cancellation must not leave the command running.
    with contextlib.suppress(SandboxError, asyncio.CancelledError):
        await asyncio.shield(killing)
