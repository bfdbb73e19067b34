"""What a shell answers, how that reads as an observation, and the shell of a sandbox."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Protocol

from tumbler.contracts.sandbox import ExecResult, Session
from tumbler.contracts.values import JSON
from tumbler.errors import CapabilityError, SessionEnded
from tumbler_envs.shells.carrying import Carried, capture_command, parse_capture, restore_commands

__all__ = ["NO_OUTPUT", "Output", "SessionShell", "Shell", "digest", "render"]

NO_OUTPUT = "(no output)"
_TIMED_OUT = "(timed out)"
_ENDED = "(the shell has ended)"
_CUT = "(cut)"
_UNSUPPORTED = "(not supported by this shell)"

_MAX_BYTES = 1 << 16
"""Of one command's output; more than any observation shows."""

_MAX_STATE_BYTES = 1 << 20
_STATE_SECONDS = 30.0

_SHELL_PREFIX = re.compile(r"^(?:(?:/\S*/)?(?:ba)?sh|environment): (?:eval: )?line \d+: ", re.MULTILINE)
"""How bash names the place of an error, "environment" in a function; the line number depends on what ran before."""

_UNPRINTABLE = re.compile(r"[^\n\t\x20-\x7e]+")


@dataclass(frozen=True, kw_only=True)
class Output:
    """What one command brought about."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int = 0
    timed_out: bool = False
    ended: bool = False
    """Whether the shell is gone."""
    unsupported: bool = False
    """Whether a twin left the command undone because it lies outside its language."""

    @property
    def errored(self) -> bool:
        """Return whether the command failed."""
        return self.exit_code != 0 or self.timed_out or self.unsupported


class Shell(Protocol):
    """A shell that runs the agent's commands one by one."""

    async def run(self, command: str) -> Output:
        """Run one command; raise only for failures of infrastructure."""
        ...

    async def state(self) -> JSON:
        """Return what the shell is in that its files do not show; raise `CapabilityError` if that has no copy."""
        ...

    async def restore(self, state: JSON) -> None:
        """Bring a shell that has run nothing into that state."""
        ...

    async def fingerprint(self, folder: str) -> str:
        """Return a digest of the shell's state and of the files in the folder."""
        ...

    async def close(self) -> None:
        """End the shell. Safe to call twice."""
        ...


class SessionShell:
    """The shell of a sandbox's session."""

    def __init__(self, session: Session, *, timeout: float) -> None:
        """Run commands in the session, each for at most `timeout` seconds."""
        self._session = session
        self._timeout = timeout
        self._ended = False

    async def run(self, command: str) -> Output:
        """Run one command in the session."""
        if self._ended:
            return Output(ended=True, exit_code=1)
        try:
            result = await self._session.run(command, timeout=self._timeout, max_output=_MAX_BYTES)
        except SessionEnded as error:
            self._ended = True
            return Output(ended=True, exit_code=error.exit_status or 0)
        return Output(
            stdout=result.stdout,
            stderr=result.stderr,
            exit_code=result.exit_code,
            timed_out=result.timed_out,
        )

    async def state(self) -> JSON:
        """Ask bash for it."""
        return None if self._ended else (await self._capture())[0].to_json()

    async def restore(self, state: JSON) -> None:
        """Set whatever differs in a fresh shell; a state of None is that of a shell that has ended."""
        if state is None:
            await self.close()
            return
        fresh, _ = await self._capture()
        await self._ask(restore_commands(Carried.from_json(state), fresh))

    async def fingerprint(self, folder: str) -> str:
        """Ask bash for its state and for a digest of the files: their names, modes and contents, not their times."""
        if self._ended:
            return digest(None)
        state, files = await self._capture(folder)
        return digest([state.to_json(), files])

    async def close(self) -> None:
        """Close the session."""
        self._ended = True
        await self._session.close()

    async def _capture(self, folder: str | None = None) -> tuple[Carried, str]:
        return parse_capture((await self._ask(capture_command(folder))).stdout)

    async def _ask(self, command: str) -> ExecResult:
        try:
            result = await self._session.run(command, timeout=_STATE_SECONDS, max_output=_MAX_STATE_BYTES)
        except SessionEnded as error:
            raise CapabilityError(f"the shell's state cannot be copied: {error}") from error
        if result.timed_out:
            raise CapabilityError(f"the shell's state was not copied within {_STATE_SECONDS:g} s")
        return result


def digest(value: JSON) -> str:
    """Return a hash of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def render(output: Output, *, limit: int) -> str:
    """Return what the agent reads: the output in at most `limit` characters, then the exit code unless it is 0."""
    if output.unsupported:
        return _UNSUPPORTED
    if output.ended:
        return _ENDED
    stderr = _SHELL_PREFIX.sub("bash: ", _plain(output.stderr))
    text = (_plain(output.stdout) + stderr).rstrip()
    parts = [_cut(text, limit)] if text else []
    if output.timed_out:
        parts.append(_TIMED_OUT)
    elif output.exit_code != 0:
        parts.append(f"exit {output.exit_code}")
    return "\n".join(parts) or NO_OUTPUT


def _plain(data: bytes) -> str:
    """Replace each run of bytes that are not plain text, as in an archive, by a question mark."""
    return _UNPRINTABLE.sub("?", data.decode("utf-8", errors="replace"))


def _cut(text: str, limit: int) -> str:
    """Cut at the end of a line or word, so that no half name is shown."""
    if len(text) <= limit:
        return text
    head = text[:limit]
    if not text[limit].isspace():
        head = head[: max(head.rfind("\n"), head.rfind(" "))] if re.search(r"[\n ]", head) else head
    return f"{head.rstrip()}\n{_CUT}"
