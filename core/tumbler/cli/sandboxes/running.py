"""`tumbler sandbox exec` and `shell`: run something in a sandbox, new or living."""

import argparse
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tumbler.cli.sandboxes.reach import find, opened
from tumbler.cli.sandboxes.specs import spec_of
from tumbler.cli.sandboxes.terminal import converse, raw, size, when_resized
from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.sandbox_process import SpawningSandbox
from tumbler.errors import CapabilityError

__all__ = ["execute", "shell"]

TIMED_OUT = 124
"""The exit code of a command whose time was over, as with timeout(1)."""

_SHELL = "if command -v bash >/dev/null; then exec bash -l; else exec sh -l; fi"


async def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    async with _sandbox(args) as sandbox:
        if isinstance(sandbox, SpawningSandbox):
            stdin = args.interactive or not sys.stdin.isatty()
            process = await sandbox.spawn(
                args.command, stdin=stdin, cwd=args.cwd, env=dict(args.env), timeout=args.timeout
            )
            ended = await converse(process, stdin=stdin)
            return _code(ended.exit_code, timed_out=ended.timed_out, oom=ended.oom)
        result = await sandbox.exec(args.command, cwd=args.cwd, env=dict(args.env), timeout=args.timeout or 3600.0)
        sys.stdout.buffer.write(result.stdout)
        sys.stderr.buffer.write(result.stderr)
        return _code(result.exit_code, timed_out=result.timed_out, oom=result.oom)


async def shell(args: argparse.Namespace) -> int:
    """Run a shell in a terminal, and return its exit code."""
    async with _sandbox(args) as sandbox:
        if not isinstance(sandbox, SpawningSandbox):
            raise CapabilityError("this backend has no terminals; use: tumbler sandbox exec")
        process = await sandbox.spawn(args.command or ["sh", "-c", _SHELL], pty=size(), cwd=args.cwd, env=_terminal())
        with raw(), when_resized(process.resize):
            ended = await converse(process, stdin=True)
        return ended.exit_code


@asynccontextmanager
async def _sandbox(args: argparse.Namespace) -> AsyncIterator[Sandbox]:
    """Yield the sandbox that is named, which lives on, or a new one, which does not unless it is to be kept."""
    async with opened(args, keep=args.keep) as backend:
        if args.sandbox is not None:
            yield await find(backend, args.sandbox)
            return
        sandbox = await backend.create(spec_of(args))
        kept = False
        try:
            yield sandbox
            kept = args.keep
        finally:
            if not kept:
                await sandbox.delete()
        if kept:
            print(f"tumbler: keeping sandbox {sandbox.id}", file=sys.stderr)


def _terminal() -> dict[str, str]:
    return {"TERM": "xterm-256color"}


def _code(exit_code: int, *, timed_out: bool, oom: bool) -> int:
    if timed_out:
        print("tumbler: the command's time was over", file=sys.stderr)
        return TIMED_OUT
    if oom:
        print("tumbler: the command ran out of memory", file=sys.stderr)
    return exit_code
