"""What comes between a sandbox's creation and its first use: user, folders, files, health check."""

import asyncio
from typing import Final

from tumbler.contracts.sandbox import Healthcheck, SandboxSpec
from tumbler.errors import CapabilityError, SandboxError, SandboxStartFailed
from tumbler_backends.sandbox.e2b.sandbox import E2bSandbox

__all__ = ["prepare"]

_SHOWN_BYTES: Final = 500


async def prepare(sandbox: E2bSandbox, spec: SandboxSpec) -> None:
    """Make a new sandbox what its spec says; raise `SandboxStartFailed` with the phase that failed."""
    if spec.user is not None:
        await _check_user(sandbox, spec.user)
    await _make_workdir(sandbox, spec)
    try:
        for path, content in spec.files.items():
            await sandbox.write(path, content)
    except OSError as error:
        if isinstance(error, SandboxError):
            raise
        raise SandboxStartFailed(f"the files of the sandbox could not be written: {error}", "files") from error
    if spec.healthcheck is not None:
        await _wait_until_healthy(sandbox, spec.healthcheck, spec.startup_timeout)


async def _make_workdir(sandbox: E2bSandbox, spec: SandboxSpec) -> None:
    try:
        await sandbox.mkdir(spec.workdir)
        return
    except OSError as error:
        if isinstance(error, SandboxError):
            raise
    try:
        await sandbox.own_folder(spec.workdir)
    except (SandboxError, ValueError) as error:
        raise SandboxStartFailed(f"the folder {spec.workdir!r} could not be made: {error}", "workdir") from error


async def _check_user(sandbox: E2bSandbox, user: str) -> None:
    """See that commands run as the user that was asked for."""
    try:
        names = await sandbox.user_names()
    except SandboxError as error:
        raise CapabilityError(f"the service does not offer the user {user!r}: {error}") from error
    if user not in names:
        raise CapabilityError(f"the service ran a command as {' or '.join(names)}, and not as the user {user!r}")


async def _wait_until_healthy(sandbox: E2bSandbox, check: Healthcheck, patience: float) -> None:
    said = b""
    try:
        async with asyncio.timeout(patience):
            while (result := await sandbox.exec(check.command, timeout=check.timeout)).exit_code != 0:
                said = result.stderr[-_SHOWN_BYTES:]
                await asyncio.sleep(check.interval)
    except TimeoutError as error:
        raise SandboxStartFailed(
            f"the health check {check.command!r} did not succeed within {patience} s; it said {said!r}", "healthcheck"
        ) from error
