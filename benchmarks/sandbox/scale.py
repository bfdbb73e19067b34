"""Ten thousand living bubblewrap sandboxes on one machine: creation, an answer from each, and what deletion leaves.

Prints the creation rate around 1, 100, 1,000 … living sandboxes, the bytes and processes of an idle one, and how
many of them answered a command with the marker file that only they hold. Ends with 1 where anything is wrong.

    python benchmarks/sandbox/scale.py --count 10000
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tumbler.contracts.sandbox import Sandbox, SandboxSpec
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings

WINDOW = 100
"""A rate is taken over so many creations."""
CONCURRENT = 8
"""Commands at one time while all sandboxes are asked."""
CGROUPS = Path("/sys/fs/cgroup")


def marker(number: int) -> bytes:
    """Return what only sandbox `number` holds."""
    return b"marker %d\n" % number


async def create_all(backend: BubblewrapBackend, count: int) -> tuple[list[Sandbox], list[float]]:
    """Create the sandboxes one after another; return them and the seconds that each took."""
    sandboxes: list[Sandbox] = []
    seconds = []
    for number in range(count):
        began = time.perf_counter()
        sandboxes.append(await backend.create(SandboxSpec(files={"marker": marker(number)}, ttl=7200)))
        seconds.append(time.perf_counter() - began)
    return sandboxes, seconds


async def ask_all(sandboxes: Sequence[Sandbox]) -> int:
    """Let each sandbox print its marker; return how many did."""
    turns = asyncio.Semaphore(CONCURRENT)

    async def ask(number: int, sandbox: Sandbox) -> bool:
        async with turns:
            return (await sandbox.exec(["cat", "marker"], timeout=120)).stdout == marker(number)

    return sum(await asyncio.gather(*(ask(number, sandbox) for number, sandbox in enumerate(sandboxes))))


def processes() -> int:
    """Return how many processes this one has started and not seen end."""
    return len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def left_behind(root: Path, owner_pid: int) -> list[str]:
    """Name folders, cgroups, mounts and processes that should be gone."""
    found = [str(path) for path in root.iterdir()] if root.is_dir() else []
    found += [str(path) for path in CGROUPS.glob(f"*/**/tumbler-{owner_pid}-*")]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(root) in line]
    return found + [f"{processes()} processes"] * (processes() > 0)


def report_creation(seconds: Sequence[float]) -> None:
    """Print how fast sandboxes came, by the number of those that lived."""
    print("| living | creations/s | median ms | 99th percentile ms |\n|---|---|---|---|")
    living = 1
    while living <= len(seconds):
        window = seconds[max(0, living - WINDOW) : max(living, WINDOW)]
        ordered = sorted(window)
        rate = len(window) / sum(window)
        percentile = ordered[int(0.99 * (len(ordered) - 1))]
        print(f"| {living:,} | {rate:,.0f} | {1e3 * statistics.median(window):.2f} | {1e3 * percentile:.2f} |")
        living = living * 100 if living == 1 else living * 10


async def measure(count: int, root: Path) -> bool:
    """Run everything; return whether all was well."""
    backend = BubblewrapBackend(BubblewrapSettings(root=root))
    await backend.start()
    processes_before, memory_before = processes(), resident_bytes()
    sandboxes, seconds = await create_all(backend, count)
    report_creation(seconds)
    memory = (resident_bytes() - memory_before) / count
    print(f"idle sandbox: {(processes() - processes_before) / count:g} processes, {memory:,.0f} bytes of memory")
    began = time.perf_counter()
    answered = await ask_all(sandboxes)
    asked = time.perf_counter() - began
    print(f"answered with their own marker: {answered:,} of {count:,}, {count / asked:,.0f} commands/s")
    began = time.perf_counter()
    for start in range(0, count, WINDOW):
        await asyncio.gather(*(sandbox.delete() for sandbox in sandboxes[start : start + WINDOW]))
    print(f"deletions/s: {count / (time.perf_counter() - began):,.0f}")
    await backend.close()
    left = left_behind(root, os.getpid())
    print(f"left behind: {len(left)}", *left[:10], sep="\n  ")
    return answered == count and not left


def resident_bytes() -> int:
    """Return this process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where the sandboxes lie; a new temporary folder by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        return 0 if asyncio.run(measure(arguments.count, Path(folder, "sandboxes"))) else 1


if __name__ == "__main__":
    sys.exit(main())
