"""The agent's shell: one bash in the sandbox, opened at its first command, whose state can be carried over."""

import hashlib
import json

from tumbler.contracts.sandbox import ExecResult, Sandbox, Session
from tumbler.contracts.values import JSON
from tumbler.errors import CapabilityError, SessionEnded
from tumbler_envs.shells.carrying import Carried, capture_command, parse_capture, restore_commands

__all__ = ["TaskShell"]

_MAX_BYTES = 1 << 20
_STATE_SECONDS = 60.0


class TaskShell:
    """Runs commands one by one. A scaffold that works inside of the sandbox never needs it, and none is opened."""

    def __init__(self, sandbox: Sandbox, *, timeout: float) -> None:
        """Open nothing yet; a command may take `timeout` seconds."""
        self._sandbox = sandbox
        self._timeout = timeout
        self._session: Session | None = None

    async def run(self, command: str) -> ExecResult:
        """Run one command; raise `SessionEnded` where it ended the shell, after which the next one gets a new one."""
        session = await self._opened()
        try:
            return await session.run(command, timeout=self._timeout, max_output=_MAX_BYTES)
        except SessionEnded:
            await self.close()
            raise

    async def state(self) -> JSON:
        """Return what bash is in, None where there is none; raise `CapabilityError` if that has no copy."""
        return None if self._session is None else (await self._capture(self._session))[0].to_json()

    async def restore(self, state: JSON) -> None:
        """Bring a shell that has run nothing into that state."""
        if state is None:
            return
        session = await self._opened()
        fresh, _ = await self._capture(session)
        await self._ask(session, restore_commands(Carried.from_json(state), fresh))

    async def fingerprint(self, folder: str) -> str:
        """Return a digest of the shell's state and of the files in the folder: names, modes and contents, not times."""
        state, files = await self._capture(await self._opened(), folder)
        return hashlib.sha256(json.dumps([state.to_json(), files], sort_keys=True).encode()).hexdigest()

    async def close(self) -> None:
        """End the shell and all that it started. Safe to call twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _opened(self) -> Session:
        if self._session is None:
            self._session = await self._sandbox.session()
        return self._session

    async def _capture(self, session: Session, folder: str | None = None) -> tuple[Carried, str]:
        return parse_capture((await self._ask(session, capture_command(folder))).stdout)

    async def _ask(self, session: Session, command: str) -> ExecResult:
        try:
            result = await session.run(command, timeout=_STATE_SECONDS, max_output=_MAX_BYTES)
        except SessionEnded as error:
            await self.close()
            raise CapabilityError(f"the shell's state cannot be copied: {error}") from error
        if result.timed_out:
            raise CapabilityError(f"the shell's state was not copied within {_STATE_SECONDS:g} s")
        return result
