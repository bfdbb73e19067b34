"""Ordinary work in many sandboxes and several languages, each result of which is checked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random

from tumbler.contracts.sandbox import Sandbox, SandboxBackend, SandboxSpec

__all__ = ["Load", "running_load"]

_PAUSE_S = 0.5
_TIMEOUT_S = 300.0


@dataclass
class Load:
    """What the background work did."""

    done: int = 0
    wrong: int = 0


def _jobs(number: int) -> list[list[str]]:
    """Return one job per language, all of which print the same sum."""
    return [
        ["sh", "-c", f"i=0; s=0; while [ $i -le {number} ]; do s=$((s + i)); i=$((i + 1)); done; echo $s"],
        ["python3", "-c", f"print(sum(range({number} + 1)))"],
        ["node", "-e", f"let s = 0; for (let i = 0; i <= {number}; i++) s += i; console.log(s)"],
        ["perl", "-e", f"my $s = 0; $s += $_ for 0 .. {number}; print qq($s\\n)"],
        ["awk", f"BEGIN {{ for (i = 0; i <= {number}; i++) s += i; print s }}"],
    ]


@contextlib.asynccontextmanager
async def running_load(backend: SandboxBackend, count: int, image: str | None) -> AsyncIterator[Load]:
    """Keep `count` sandboxes at work until the context ends."""
    load = Load()
    sandboxes: list[Sandbox] = list(
        await asyncio.gather(*(backend.create(SandboxSpec(image=image)) for _ in range(count)))
    )
    tasks = [asyncio.create_task(_work(sandbox, number, load)) for number, sandbox in enumerate(sandboxes)]
    try:
        yield load
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(sandbox.delete() for sandbox in sandboxes))
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome


async def _work(sandbox: Sandbox, seed: int, load: Load) -> None:
    random = Random(seed)
    while True:
        number = random.randrange(100, 2000)
        result = await sandbox.exec(random.choice(_jobs(number)), timeout=_TIMEOUT_S)
        load.done += 1
        load.wrong += result.stdout.strip() != str(number * (number + 1) // 2).encode()
        await asyncio.sleep(_PAUSE_S * random.random())
