"""What comes between a sandbox's creation and its first use: user, folders, files, health check."""

import asyncio
from typing import TYPE_CHECKING, Final

from tumbler.contracts.sandbox import Healthcheck, SandboxSpec
from tumbler.errors import CapabilityError, SandboxError, SandboxStartFailed
from tumbler_backends.sandbox.modal.cloud import ModalCloud

if TYPE_CHECKING:
    from tumbler_backends.sandbox.modal.sandbox import ModalSandbox

__all__ = ["prepare", "settle"]

_SETTLE: Final = (
    'own=$(id -u); uid=$2 gid=$3; if [ -n "$1" ]; then uid=$(id -u -- "$1") && gid=$(id -g -- "$1") || exit 65; fi; '
    # A service that runs nothing as root can offer no other user than its own.
    '[ "$own" = 0 ] || { [ -z "$1" ] || [ "$own" = "$uid" ] || exit 66; uid=0; }; '
    'mkdir -p -- "$4" || exit 67; [ "$uid" = 0 ] && exit 0; '
    "command -v setpriv >/dev/null || exit 68; "
    'chown "$uid:$gid" -- "$4"; mkdir -p -- "$5"; chown "$uid:$gid" -- "$5"; '
    'setpriv --reuid="$uid" --regid="$gid" --clear-groups --no-new-privs -- true || exit 69; echo "$uid:$gid"'
)
_PROBLEMS: Final = {
    65: "the image has no user {user!r}",
    66: "the service runs commands as another user than {user!r}, and is not root",
    68: "the image has no setpriv, which an unprivileged user needs: install util-linux, or ask for the user root",
    69: "the service's root cannot become another user; ask for the user root",
}
_HOME: Final = "/tmp/.tumbler-home"
_AT_ONCE: Final = 8
_SHOWN_BYTES: Final = 500


async def settle(cloud: ModalCloud, spec: SandboxSpec, user_id: int, timeout: float) -> None:
    """Make the working directory, and find out as whom commands are to run; set `cloud.user`."""
    words = ["sh", "-c", _SETTLE, "sh", spec.user or "", str(user_id), str(user_id), spec.workdir, _HOME]
    code, said = await cloud.run_as_service(words, timeout)
    if code in _PROBLEMS:
        raise CapabilityError(f"the modal backend cannot make this sandbox: {_PROBLEMS[code].format(user=spec.user)}")
    if code != 0:
        raise SandboxStartFailed(f"the folder {spec.workdir!r} could not be made: exit code {code}", "workdir")
    cloud.user = said.strip()


async def prepare(sandbox: "ModalSandbox", spec: SandboxSpec) -> None:
    """Write the spec's files and wait for its health check; raise `SandboxStartFailed` with the phase that failed."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def write(path: str, content: bytes) -> None:
        async with turns:
            await sandbox.write(path, content)

    try:
        await asyncio.gather(*(write(path, content) for path, content in spec.files.items()))
    except OSError as error:
        if isinstance(error, SandboxError):
            raise
        raise SandboxStartFailed(f"the files of the sandbox could not be written: {error}", "files") from error
    if spec.healthcheck is not None:
        await _wait_until_healthy(sandbox, spec.healthcheck, spec.startup_timeout)


async def _wait_until_healthy(sandbox: "ModalSandbox", check: Healthcheck, patience: float) -> None:
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
