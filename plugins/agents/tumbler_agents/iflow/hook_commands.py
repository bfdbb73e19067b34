"""Runs the command of a hook: the event as JSON on its standard input, its answer as JSON on its standard output."""

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.values import JSONObject

__all__ = ["BLOCKS", "HookFailed", "run_in_sandbox", "run_on_host"]

BLOCKS: Final = 2
"""The exit code that blocks."""

_MOST_BYTES: Final = 1 << 20
_SHOWN: Final = 300


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
    try:
        stdout, stderr = await process.communicate(_encoded(told))
    finally:
        # Also what it left behind: the group has the shell's id as long as one of it lives.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.returncode is None:
            await process.wait()
    return _answer(process.returncode or 0, stdout, stderr)


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
