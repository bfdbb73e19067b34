"""What a call costs that goes through the gateway, over a model that does nothing; and bare servers beside it.

Each server is a process of its own, and the client is another. The rounds alternate, so that all servers meet the same
load. `one after the other` is the median time of a call on one connection: all of it is overhead, since the model takes
none. `side by side` is the rate over 16 connections, and what follows is the server's processor time in it: the one
figure that other work on the machine does not change.

    python benchmarks/gateway --rounds 5
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from traffic import BODIES, load, raw  # the folder is the path of `python benchmarks/gateway`

CONNECTIONS = 16
BARE = ("bare aiohttp", "bare uvicorn", "FastAPI")
"""Servers that answer a constant; they are sent the first body alone."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one round found."""

    alone: float
    """Milliseconds of a call on one connection, median."""
    rate: float
    """Calls a second over many connections."""
    processor: float
    """Milliseconds of the server's processor time for one of these calls."""


@contextmanager
def server(name: str) -> Iterator[tuple[str, str, psutil.Process]]:
    """Start a server and yield its address, its secret and its process."""
    command = [sys.executable, str(Path(__file__).with_name("servers.py")), name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        yield started["url"], started["secret"], psutil.Process(process.pid)


async def measure(url: str, request: bytes, process: psutil.Process, calls: int) -> Measured:
    """Make calls one after the other, then side by side."""
    await load(url, request, connections=1, calls=20)
    alone, _ = await load(url, request, connections=1, calls=calls)
    before = process.cpu_times()
    beside, seconds = await load(url, request, connections=CONNECTIONS, calls=calls * 2)
    after = process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    return Measured(
        alone=statistics.median(alone) * 1000, rate=len(beside) / seconds, processor=spent / len(beside) * 1000
    )


def rows(rounds: int, calls: int) -> Iterator[str]:
    """Measure, and yield the lines of a table."""
    first = next(iter(BODIES))
    cases = [("gateway", body) for body in BODIES] + [(name, first) for name in BARE]
    found: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for _ in range(rounds):
        for name, body in cases:
            with server(name) as (url, secret, process):
                request = raw(url, secret, *BODIES[body])
                found[name, body].append(asyncio.run(measure(url, request, process, calls)))
    yield "| server | request | bytes | one after the other, ms | side by side, calls/s | processor for one, ms |"
    yield "|---|---|---|---|---|---|"
    for (name, body), measured in found.items():
        columns = [
            _spread([each.alone for each in measured], 2),
            _spread([each.rate for each in measured], 0),
            _spread([each.processor for each in measured], 2),
        ]
        yield f"| {name} | {body} | {len(json.dumps(BODIES[body][1]))} | {' | '.join(columns)} |"


def _spread(values: Sequence[float], digits: int) -> str:
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def main() -> None:
    """Print the table, and how busy the machine was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=500)
    given = parser.parse_args()
    before = os.getloadavg()[0]
    for line in rows(given.rounds, given.calls):
        print(line, flush=True)
    print(f"\n{os.cpu_count()} cores; load {before:.1f} before, {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
