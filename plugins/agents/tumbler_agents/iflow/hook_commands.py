"""Runs the command of a hook: the event as JSON on its standard input, its answer as JSON on its standard output."""

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.values import JSONObject

__all__ = ["BLOCKS", "HookFailed", "run_in_sandbox", "run_on_host"]

BLOCKS: Final = 2
"""The exit code that blocks."""

_MOST_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 1 << 16
_SHOWN: Final = 300
_POLL_S: Final = 0.01
_FLUSH_S: Final = 0.5
"""For the last words of a command that has left something running, which keeps its pipes open."""


class HookFailed(RuntimeError):
    """A hook could not be run, or did not answer as hooks do."""


async def run_in_sandbox(sandbox: Sandbox, command: str, told: JSONObject, *, seconds: float) -> JSONObject | None:
    """Run a command in the sandbox and return its answer; raises `TimeoutError` after its time."""
    result = await sandbox.exec(command, input=_encoded(told), timeout=seconds, max_output=_MOST_BYTES)
    if result.timed_out:
        raise TimeoutError
    return _answer(result.exit_code, result.stdout, result.stderr)


async def run_on_host(command: str, told: JSONObject) -> JSONObject | None:
    """Run a command on this machine and return its answer; a cancelled one is ended with all that it started."""
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    outputs = [_Output(process.stdout), _Output(process.stderr)]
    try:
        _tell(process, _encoded(told))
        await _exited(process)
        await asyncio.wait([output.reading for output in outputs], timeout=_FLUSH_S)
    finally:
        await _end(process, outputs)
    stdout, stderr = (bytes(output.kept) for output in outputs)
    return _answer(process.returncode or 0, stdout, stderr)


class _Output:
    """What a command says on one stream: it is read to its end, and its beginning is kept."""

    def __init__(self, stream: asyncio.StreamReader | None) -> None:
        self.kept = bytearray()
        self.reading = asyncio.create_task(self._read(stream))

    async def _read(self, stream: asyncio.StreamReader | None) -> None:
        while stream is not None and (piece := await stream.read(_PIECE_BYTES)):
            self.kept += piece[: _MOST_BYTES - len(self.kept)]


def _tell(process: asyncio.subprocess.Process, data: bytes) -> None:
    """Put the event on a command's standard input, read or not."""
    if process.stdin is not None:
        process.stdin.write(data)
        process.stdin.close()


async def _exited(process: asyncio.subprocess.Process) -> None:
    """Wait until the command itself has ended; asyncio's own wait goes on for whoever still holds its pipes."""
    while process.returncode is None:  # noqa: ASYNC110  # asyncio has no event for that alone
        await asyncio.sleep(_POLL_S)


async def _end(process: asyncio.subprocess.Process, outputs: Sequence[_Output]) -> None:
    # Also what it left behind: the group has the shell's id as long as one of it lives.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await _exited(process)
    for output in outputs:
        output.reading.cancel()
    await asyncio.wait([output.reading for output in outputs])
    # asyncio closes it once all pipes are closed, which a process that has left the group may prevent.
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()


def _encoded(told: JSONObject) -> bytes:
    return json.dumps(told, ensure_ascii=True).encode()


def _answer(exit_code: int, stdout: bytes, stderr: bytes) -> JSONObject | None:
    said = stderr.decode("utf-8", "replace").strip()[:_SHOWN]
    if exit_code == BLOCKS:
        return {"decision": "block", "reason": said or "a hook blocks it"}
    if exit_code != 0:
        raise HookFailed(f"exit code {exit_code}" + (f": {said}" if said else ""))
    text = stdout.decode("utf-8", "replace").strip()
    if not text:
        return None
    try:
        answer = json.loads(text)
    except json.JSONDecodeError as error:
        raise HookFailed(f"its output is no JSON ({error}): {text[:_SHOWN]!r}") from None
    if not isinstance(answer, Mapping):
        raise HookFailed(f"its output is no JSON object: {text[:_SHOWN]!r}")
    return answer
