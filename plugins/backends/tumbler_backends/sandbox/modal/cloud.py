"""One Modal sandbox as a place to start processes in, and its life; knows no files, sessions and commands."""

import asyncio
import contextlib
import errno
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Final

import modal
from modal.container_process import ContainerProcess

from tumbler.errors import SandboxDied, SandboxError, SandboxNotFound, SandboxUnavailable
from tumbler_backends.sandbox.modal.failures import FAILURES, calling, explain
from tumbler_backends.sandbox.modal.lease import ENDED
from tumbler_backends.sandbox.modal.process import ModalProcess
from tumbler_backends.sandbox.modal.settings import ModalSettings
from tumbler_backends.sandbox.posix.spawning import SpawnRecord

__all__ = ["ModalCloud"]

_LONGEST_WORD: Final = (1 << 17) - 1
"""Linux starts no program with a longer argument."""
_LONGEST_CALL: Final = 60_000
"""Modal's client takes no more than 65,536 bytes of arguments."""
_TIMED_OUT: Final = 124
_TERMINATED: Final = 137
_CAUSES: Final = {ENDED: "ttl", _TIMED_OUT: "ttl", _TERMINATED: "killed"}
_REASONS: Final = {"ttl": "its time is over", "killed": "it was terminated"}
_HOME: Final = "/tmp/.tumbler-home"
_QUIET: Final = ("sh", "-c", 'exec "$@" </dev/null', "sh")
_FROM_FILE: Final = (
    "bash",
    "-c",
    'mapfile -d "" -t words <"$1"; rm -f -- "$1"; unset OLDPWD; exec "${words[@]}"',
    "bash",
)


class ModalCloud:
    """A sandbox; keeps `tumbler_backends.sandbox.posix.cloud.Cloud`."""

    def __init__(self, sandbox: modal.Sandbox, workdir: str, settings: ModalSettings) -> None:
        """Take over a sandbox that runs."""
        self.sandbox = sandbox
        self.user = ""
        """The user and group number that processes run as, as `1000:1000`; empty is whom the service runs them as."""
        self._workdir = workdir
        self._settings = settings
        self._death: SandboxDied | None = None
        self._running: set[ModalProcess] = set()
        self._watching: asyncio.Task[None] | None = None

    @property
    def workdir(self) -> str:
        """Return the absolute working directory."""
        return self._workdir

    @property
    def death(self) -> SandboxDied | None:
        """Return what the sandbox is known to have died of."""
        return self._death

    def require(self) -> None:
        """Raise `SandboxDied` once the sandbox is known to be gone."""
        if self._death is not None:
            raise SandboxDied(str(self._death), self._death.cause)

    def die(self, why: str, cause: str | None) -> None:
        """Learn that the sandbox is gone; whoever waits for a process is told. The first reason stays."""
        if self._death is None:
            self._death = SandboxDied(f"sandbox {self.sandbox.object_id} is gone: {why}; create another", cause)
        self._fail(self._death)

    async def close(self) -> None:
        """Stop watching and reading."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await asyncio.gather(*(process.abandon() for process in tuple(self._running)))

    async def start(
        self, words: Sequence[str], *, env: Mapping[str, str], stdin: bool, record: SpawnRecord
    ) -> ModalProcess:
        """Start a program in the working directory."""
        self.require()
        _require_startable(words)
        command = [*self._prefix(), *(() if stdin else _QUIET), *words]
        if _too_long(command):
            command = [*self._prefix(), *(() if stdin else _QUIET), *_FROM_FILE, await self._upload(words)]
        started = await self._exec(command, {**env, **({"HOME": _HOME} if self.user else {})})
        process = ModalProcess(started, record, self._settings.request_timeout, self.diagnose)
        self._running.add(process)
        process.task.add_done_callback(lambda _: self._running.discard(process))
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch())
        if self._death is not None:  # it died while this process started
            self._fail(self._death)
        return process

    async def run_as_service(self, words: Sequence[str], timeout: float) -> tuple[int, str]:
        """Run a short command as the user that the service itself uses; return its exit code and its stdout."""
        self.require()
        started = await self._exec(words, {})
        try:
            async with calling(f"run {words[0]!r}", timeout):
                said = await started.stdout.read.aio()
                return await started.wait.aio(), said.decode(errors="replace")
        except SandboxNotFound as error:
            raise await self.diagnose(error) from error

    async def diagnose(self, error: BaseException) -> Exception:
        """Return what it means that a call about this sandbox failed."""
        if self._death is None:
            with contextlib.suppress(SandboxError):
                await self.look()
        if self._death is not None:
            return SandboxDied(str(self._death), self._death.cause)
        known = explain(error, f"sandbox {self.sandbox.object_id}")
        return SandboxUnavailable(str(known)) if isinstance(known, SandboxNotFound) else known

    async def look(self) -> None:
        """Ask Modal whether the sandbox lives, and note the answer."""
        try:
            async with calling("look after a sandbox", self._settings.patience):
                code = await self.sandbox.poll.aio()
        except SandboxNotFound:
            self.die("Modal does not know it any more", None)
            return
        if code is not None:
            cause = _CAUSES.get(code, "host")
            self.die(_REASONS.get(cause, f"its main process ended with exit code {code}"), cause)

    def _prefix(self) -> tuple[str, ...]:
        if not self.user:
            return ()
        user, _, group = self.user.partition(":")
        return ("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs", "--")

    async def _exec(self, words: Sequence[str], env: Mapping[str, str]) -> ContainerProcess[bytes]:
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                return await self.sandbox.exec.aio(*words, env=dict(env), text=False)
        except FAILURES as error:
            raise await self.diagnose(error) from error

    async def _upload(self, words: Sequence[str]) -> str:
        """Bring words that are too long, or no text, into a file; return its path."""
        path = f"/tmp/.tumbler-words-{secrets.token_hex(8)}"
        writing = await self._exec([*self._prefix(), "sh", "-c", 'umask 077; cat >"$1"', "sh", path], {})
        async with calling("send a long command", self._settings.request_timeout):
            writing.stdin.write(b"".join(os.fsencode(word) + b"\0" for word in words))
            writing.stdin.write_eof()
            await writing.stdin.drain.aio()
            await writing.wait.aio()
        return path

    async def _watch(self) -> None:
        heard = time.monotonic()
        while True:
            await asyncio.sleep(self._settings.pulse)
            if not self._running:
                heard = time.monotonic()
                continue
            try:
                await self.look()
                heard = time.monotonic()
            except SandboxError as error:
                if time.monotonic() - heard > self._settings.patience:
                    self._fail(SandboxUnavailable(f"sandbox {self.sandbox.object_id} cannot be reached: {error}"))

    def _fail(self, error: SandboxError) -> None:
        for process in tuple(self._running):
            process.record.fail(error)
            process.task.cancel()


def _require_startable(words: Sequence[str]) -> None:
    if any(len(os.fsencode(word)) > _LONGEST_WORD for word in words):
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))


def _too_long(words: Sequence[str]) -> bool:
    """Tell whether Modal's client would refuse these words."""
    try:
        return sum(len(word.encode()) for word in words) > _LONGEST_CALL
    except UnicodeEncodeError:  # bytes that are no text
        return True
