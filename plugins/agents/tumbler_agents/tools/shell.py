"""The tool `shell`: one command in a shell that lasts; knows no other tool."""

import asyncio
from typing import Final

from pydantic import Field

from tumbler.contracts.sandbox import ExecResult, Session
from tumbler.errors import SessionEnded
from tumbler_agents.tools.bounds import bounded, decoded
from tumbler_agents.tools.checked import Arguments, CheckedTool, Words
from tumbler_agents.tools.tool import ToolOutput
from tumbler_agents.tools.workplace import Workplace

__all__ = ["LastingShell", "ShellArguments", "shell_tool"]

_MOST_BYTES: Final = 8 << 20
"""Kept of each stream before the answer is cut, so that its end is shown, too."""


class ShellArguments(Arguments):
    """Run one shell command and wait for it. The working directory and exported variables last from call to call.

    Answers with what the command printed, and its exit code where that is not 0. Nothing can be typed into a running
    command. Send what shall go on running to the background with &, its output into a file.
    """

    command: Words = Field(min_length=1)
    """The command, as it would be typed; may have several lines."""

    timeout: float | None = Field(default=None, gt=0)
    """Seconds after which the command is killed; leave it out for the usual time."""


class LastingShell:
    """A session of the sandbox, opened with the first command and again after its shell has exited."""

    def __init__(self, place: Workplace) -> None:
        """Keep the place; nothing is opened yet."""
        self._place = place
        self._session: Session | None = None
        self._turn = asyncio.Lock()

    async def run(self, given: ShellArguments) -> ToolOutput:
        """Carry out one call; calls that come at once wait for each other."""
        settings = self._place.settings
        asked = given.timeout if given.timeout is not None else settings.command_seconds
        seconds = min(asked, settings.most_command_seconds)
        async with self._turn:
            session = self._session or await self._open()
            try:
                result = await session.run(given.command, timeout=seconds, max_output=_MOST_BYTES)
            except SessionEnded as error:
                self._session = None
                return self._answered(error.partial, [_exited(error.exit_status)], errored=error.exit_status != 0)
        notes: list[str] = []
        if result.timed_out:
            notes.append(f"The command was killed: it ran past {seconds:g} seconds.")
        elif result.exit_code != 0:
            notes.append(f"Exit code: {result.exit_code}" + (" (out of memory)" if result.oom else ""))
        return self._answered(result, notes, errored=result.timed_out or result.exit_code != 0)

    async def close(self) -> None:
        """End the shell and all that it started. Safe to call twice; a later call opens another one."""
        async with self._turn:
            session, self._session = self._session, None
            if session is not None:
                await session.close()

    async def _open(self) -> Session:
        session = await self._place.sandbox.session()
        folder = self._place.settings.folder
        if folder is not None:
            quoted = folder.replace("'", "'\\''")
            await session.run(f"cd -- '{quoted}'")
        self._session = session
        return session

    def _answered(self, result: ExecResult | None, notes: list[str], *, errored: bool) -> ToolOutput:
        parts: list[str] = []
        limit = self._place.settings.output_chars
        if result is not None:
            both = bool(result.stdout and result.stderr)
            for label, stream, lost in (
                ("stdout", result.stdout, result.stdout_dropped),
                ("stderr", result.stderr, result.stderr_dropped),
            ):
                if stream:
                    text = bounded(decoded(stream).rstrip("\n"), limit // 2 if both else limit)
                    parts += [f"[{label}]"] if both else []
                    parts += [text, *((f"[... and {lost} bytes more that were not kept]",) if lost else ())]
        text = "\n".join([*parts, *notes])
        return ToolOutput(text=text or "(no output)", errored=errored)


def shell_tool(shell: LastingShell) -> CheckedTool[ShellArguments]:
    """Return the tool `shell` over a shell."""
    return CheckedTool("shell", ShellArguments, shell.run)


def _exited(status: int | None) -> str:
    code = "" if status is None else f" with exit code {status}"
    return f"The shell has exited{code}; the next command starts a new one in the working folder."
