"""Try to get out of sandboxes, in five languages, alone and under load; and out of one that is weakened on purpose.

    python experiments/isolation

Docker gets an engine of its own, as root on Debian (see tools/), and an image with all the languages. Prints a
Markdown table; ends with 1 if an attempt against a real sandbox succeeded, or if fewer than fifteen succeed against
the weakened one: then the battery proves nothing.
"""

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from attempts import PROGRAMS
from battery import Findings, run_battery
from control import WeakBackend
from workload import running_load
from world import new_folder

from tumbler.contracts.sandbox import SandboxBackend
from tumbler.plugins import PluginHost

TOOLS = Path(__file__).parent.parent.parent / "tools"
LANGUAGES = ("nodejs", "perl")
"""What the image of the tests does not hold."""
CONTROL_MINIMUM = 15
"""Distinct attempts that the weakened sandbox must let through."""


def compile_programs(folder: Path) -> Path:
    """Build the C programs statically, so that they run in any image."""
    for source in sorted(PROGRAMS.glob("*.c")):
        words = ["gcc", "-O1", "-Wall", "-static", "-o", str(folder / source.stem), str(source)]
        try:
            subprocess.run(words, check=True)
        except FileNotFoundError:
            sys.exit("the C programs need a compiler: apt-get install gcc libc6-dev")
    return folder


def build(identity: str, **settings: object) -> SandboxBackend:
    """Return a backend by its component id."""
    host = PluginHost.load()
    backend = host.build("backend", identity, host.settings_model("backend", identity).model_validate(settings))
    assert isinstance(backend, SandboxBackend)
    return backend


@contextlib.contextmanager
def own_engine() -> Iterator[tuple[str, str]]:
    """Start a Docker engine; yield its address and the archive of an image."""
    words = ["sh", str(TOOLS / "make-test-image.sh"), *LANGUAGES]
    image = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    script = str(TOOLS / "start-docker-engine.sh")
    with tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as folder:
        try:
            started = subprocess.run(["sh", script, folder], check=True, stdout=subprocess.PIPE, text=True)
            yield started.stdout.strip(), image
        finally:
            subprocess.run(["sh", script, "--stop", folder], check=True)


async def attack(
    backend: SandboxBackend, name: str, binaries: Path, *, image: str | None, load: int, concurrent: int
) -> Findings:
    """Run the battery, with `load` working sandboxes beside it."""
    await backend.start()
    try:
        with new_folder() as folder:
            if not load:
                return await run_battery(backend, name, binaries, Path(folder), image=image, concurrent=concurrent)
            async with running_load(backend, load, image) as work:
                findings = await run_battery(backend, name, binaries, Path(folder), image=image, concurrent=concurrent)
            print(f"{name}: {work.done:,} jobs in {load} sandboxes beside the battery, {work.wrong} wrong", flush=True)
            findings.tried["results of others are disturbed"] = {"load": work.wrong > 0 or work.done == 0}
            return findings
    finally:
        await backend.close()


def table(all_findings: list[Findings]) -> str:
    """Return successes of tries for each attempt and backend."""
    names = list(dict.fromkeys(name for findings in all_findings for name in findings.tried))
    lines = ["| attempt | " + " | ".join(findings.backend for findings in all_findings) + " |"]
    lines.append("|---" * (len(all_findings) + 1) + "|")
    lines += [f"| {name} | " + " | ".join(findings.cell(name) for findings in all_findings) + " |" for name in names]
    totals = (
        f"**{len(findings.successes)}** of {sum(map(len, findings.tried.values()))} tries" for findings in all_findings
    )
    return "\n".join([*lines, "| **attempts that succeeded** | " + " | ".join(totals) + " |"])


async def run(arguments: argparse.Namespace, binaries: Path, engine: tuple[str, str] | None) -> list[Findings]:
    """Attack every backend asked for."""
    found = []

    async def against(backend: SandboxBackend, name: str, image: str | None, load: int, concurrent: int) -> None:
        findings = await attack(backend, name, binaries, image=image, load=load, concurrent=concurrent)
        print(f"{name}: {len(findings.successes)} attempts succeeded: {', '.join(findings.successes)}", flush=True)
        for place, why in findings.unable.items():
            print(f"{name}: could not try {place}: {why}", flush=True)
        found.append(findings)

    for load in (0, arguments.load):
        place = f" beside {load} others" if load else ""
        if not arguments.no_bubblewrap:
            await against(build("bubblewrap"), f"bubblewrap{place}", None, load, 2)
        if engine is not None:
            docker = build("docker", host=engine[0], image=engine[1])
            await against(docker, f"docker{place}", None, load, 2)
        if not arguments.load:
            break
    await against(WeakBackend(), "weakened control", None, 0, 1)
    return found


def main() -> int:
    """Attack, print the table, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-docker", action="store_true", help="leave Docker out")
    parser.add_argument("--no-bubblewrap", action="store_true", help="leave bubblewrap out")
    parser.add_argument("--load", type=int, default=64, help="working sandboxes beside the second run; 0: no such run")
    parser.add_argument("--table", type=Path, help="write the table to this file as well")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        binaries = compile_programs(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        engine = None if arguments.no_docker else stack.enter_context(own_engine())
        found = asyncio.run(run(arguments, binaries, engine))
    text = table(found)
    print(text)
    if arguments.table:
        arguments.table.write_text(text + "\n")
    *real, control = found
    broken = [findings.backend for findings in real if findings.successes or findings.unable]
    weak = len(control.successes) < CONTROL_MINIMUM
    if broken:
        print(f"FAILED: something got out of, or could not be tried in: {', '.join(broken)}")
    if weak:
        print(f"FAILED: only {len(control.successes)} attempts got out of the weakened control")
    return 1 if broken or weak else 0


if __name__ == "__main__":
    sys.exit(main())
