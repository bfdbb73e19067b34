"""Run every attempt in every language against a backend; the attempts themselves are elsewhere."""

import asyncio
import contextlib
import os
import resource
import secrets
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attempts import ALL, LIMITS, PROGRAMS, Attempt, Outcome
from world import World, processes_with

from tumbler.contracts.sandbox import ExecResult, Sandbox, SandboxBackend, SandboxSpec
from tumbler.errors import SandboxError

__all__ = ["Findings", "run_battery"]

_COMMANDS = {"sh": "bash", "py": "python3", "js": "node", "pl": "perl"}
_PLACE = "battery"
_GONE_S = 5.0
_FLOOD_GROWTH_BYTES = 256 << 20


@dataclass
class Findings:
    """What a battery run found."""

    backend: str
    tried: dict[str, dict[str, bool]] = field(default_factory=dict)
    """Attempt → language → whether it succeeded."""
    unable: dict[str, str] = field(default_factory=dict)
    """Attempt and language → why it could not be run at all."""

    @property
    def successes(self) -> list[str]:
        """Return the attempts that succeeded in at least one language."""
        return [name for name, languages in self.tried.items() if any(languages.values())]

    def cell(self, name: str) -> str:
        """Return successes of tries, for a table."""
        languages = self.tried.get(name)
        return f"{sum(languages.values())}/{len(languages)}" if languages else "–"


async def run_battery(
    backend: SandboxBackend, name: str, binaries: Path, folder: Path, *, image: str | None, concurrent: int = 1
) -> Findings:
    """Run all attempts; `binaries` holds the C programs, built statically."""
    findings = Findings(name)
    world = World(folder)
    turns = asyncio.Semaphore(concurrent)
    async with world.open(backend):

        async def one(attempt: Attempt, language: str) -> None:
            async with turns:
                succeeded = await _try(backend, world, attempt, language, binaries, image, findings)
                if succeeded is not None:
                    findings.tried.setdefault(attempt.name, {})[language] = succeeded

        for attempt in ALL:
            await asyncio.gather(*(one(attempt, language) for language in attempt.languages))
        for title, check in _WHOLE_CHECKS.items():
            findings.tried[title] = await check(backend, binaries, image)
    return findings


async def _try(
    backend: SandboxBackend,
    world: World,
    attempt: Attempt,
    language: str,
    binaries: Path,
    image: str | None,
    findings: Findings,
) -> bool | None:
    word = f"w{secrets.token_hex(12)}"
    sandbox = await backend.create(_spec([attempt.program], language, binaries, image))
    try:
        words = [*_command(attempt.program, language), *map(str, attempt.words(world, word))]
        try:
            result = await sandbox.exec(words, timeout=attempt.timeout)
        except SandboxError as error:  # the sandbox may fall to a bomb; the host may not
            result = ExecResult(exit_code=-1, stdout=b"", stderr=str(error).encode(), duration=0.0)
        if result.exit_code == 127:
            findings.unable[f"{attempt.name} ({language})"] = result.stderr.decode(errors="replace").strip()
            return None
        await asyncio.sleep(0.05)  # a datagram may be under way
        succeeded = attempt.judge(world, Outcome(word=word, result=result))
        if attempt.after is not None:
            succeeded = await attempt.after(world, sandbox, word) or succeeded
    finally:
        await sandbox.delete()
    if attempt.once_deleted is not None:
        outcome = Outcome(word=word, result=result)
        succeeded = await _remains(world, attempt, outcome) or succeeded
        for pid in processes_with(word):
            with contextlib.suppress(OSError):
                os.kill(int(pid), signal.SIGKILL)
    return succeeded


async def _remains(world: World, attempt: Attempt, outcome: Outcome) -> bool:
    """Tell whether something is still there some seconds after the deletion."""
    assert attempt.once_deleted is not None
    for _ in range(round(_GONE_S / 0.1)):
        if not attempt.once_deleted(world, outcome):
            return False
        await asyncio.sleep(0.1)
    return True


def _spec(programs: Sequence[str], language: str, binaries: Path, image: str | None) -> SandboxSpec:
    files: Mapping[str, bytes] = {
        f"{_PLACE}/{program}{'' if language == 'c' else '.' + language}": (
            (binaries / program) if language == "c" else PROGRAMS / f"{program}.{language}"
        ).read_bytes()
        for program in programs
    }
    return SandboxSpec(files=files, resources=LIMITS, image=image)


def _command(program: str, language: str) -> list[str]:
    if language == "c":  # files of a spec are not executable
        return ["sh", "-c", f'chmod +x {_PLACE}/{program}; exec {_PLACE}/{program} "$@"', "sh"]
    return [_COMMANDS[language], f"{_PLACE}/{program}.{language}"]


# What strains the host's side rather than getting out: each returns a form → whether it did harm.


async def _flood(backend: SandboxBackend, binaries: Path, image: str | None) -> dict[str, bool]:
    harmed = {}
    for language in ("sh", "py", "c", "pl"):
        sandbox = await backend.create(_spec(["flood"], language, binaries, image))
        before = _peak_bytes()
        try:
            result = await sandbox.exec(_command("flood", language), timeout=120, max_output=1 << 20)
            whole = (result.exit_code, len(result.stdout), result.truncated) == (0, 1 << 20, True)
            harmed[language] = not whole or _peak_bytes() - before > _FLOOD_GROWTH_BYTES
        finally:
            await sandbox.delete()
    return harmed


async def _odd_bytes(backend: SandboxBackend, binaries: Path, image: str | None) -> dict[str, bool]:
    sandbox = await backend.create(_spec(["read"], "sh", binaries, image))
    content = bytes(range(256)) * 16
    await sandbox.write("odd", content)
    result = await sandbox.exec(["cat", "odd"])
    kept = result.stdout == content and await sandbox.read("odd") == content
    await sandbox.delete()
    return {"bytes": not kept}


async def _long_argument(backend: SandboxBackend, binaries: Path, image: str | None) -> dict[str, bool]:
    sandbox = await backend.create(_spec(["read"], "sh", binaries, image))
    harmed = False
    try:
        await sandbox.exec(["true", "x" * (1 << 20)])
        harmed = not await sandbox.alive()
    except (ValueError, SandboxError):
        harmed = False  # a clear refusal
    except OSError:
        harmed = True  # the host's own machinery stumbled
    finally:
        await sandbox.delete()
    return {"argument": harmed}


async def _large_file(backend: SandboxBackend, binaries: Path, image: str | None) -> dict[str, bool]:
    sandbox: Sandbox = await backend.create(_spec(["read"], "sh", binaries, image))
    content = secrets.token_bytes(50 << 20)
    await sandbox.write("large", content)
    counted = await sandbox.exec(["wc", "-c", "large"])
    kept = await sandbox.read("large", limit=64 << 20) == content and counted.stdout.split()[0] == b"%d" % len(content)
    await sandbox.delete()
    return {"file": not kept}


_WHOLE_CHECKS = {
    "a GiB of output harms the host": _flood,
    "NUL and invalid UTF-8 are changed": _odd_bytes,
    "an argument of a MiB breaks something": _long_argument,
    "a file of 50 MiB is changed": _large_file,
}


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
