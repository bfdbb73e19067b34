"""`tumbler sandbox doctor`: which backends work here, what each can do and enforces, and how to mend it."""

import argparse
import asyncio
import json
from dataclasses import asdict, dataclass, field
from typing import Final, cast

from tumbler.cli.sandboxes.reach import Shelf
from tumbler.contracts.sandbox import SandboxBackend, SandboxCapabilities, SandboxSpec
from tumbler.contracts.values import JSON, JSONObject

__all__ = ["doctor"]

_START_S: Final = 60.0
_RESOURCES: Final = ("cpus", "memory_bytes", "disk_bytes", "processes", "open_files", "gpus")
_ABILITIES: Final = ("snapshots", "pause", "expose", "watch", "pty", "attach", "shared_processes")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is found of one backend."""

    backend: str
    works: bool
    detail: str
    """Why it does not work, and how to mend it."""
    capabilities: JSONObject = field(default_factory=dict)


async def doctor(args: argparse.Namespace) -> int:
    """Try each backend, or the one that is named; return 1 if none works."""
    shelf = Shelf.of(args.registry)
    names = [args.backend] if args.backend is not None else shelf.backends("sandbox")
    findings = [await _examine(shelf, name) for name in names]
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            _print(finding)
    return 0 if any(finding.works for finding in findings) else 1


async def _examine(shelf: Shelf, name: str) -> Finding:
    """Start the backend with its settings, and run a command in a sandbox."""
    try:
        backend = cast("SandboxBackend", shelf.backend(name, shelf.at_once(name)))
        async with asyncio.timeout(_START_S):
            capabilities = await _try(backend)
    except Exception as error:  # noqa: BLE001  # whatever a backend raises is what there is to tell
        reason = str(error) or f"no answer within {_START_S:g} s"
        return Finding(backend=name, works=False, detail=f"{type(error).__name__}: {reason}")
    return Finding(backend=name, works=True, detail="", capabilities=_record(capabilities))


async def _try(backend: SandboxBackend) -> SandboxCapabilities:
    try:
        await backend.start()
        sandbox = await backend.create(SandboxSpec(ttl=_START_S, isolation_min="process"))
        try:
            await sandbox.exec(["true"], check=True)
        finally:
            await sandbox.delete()
        return backend.capabilities
    finally:
        await backend.close()


def _record(capabilities: SandboxCapabilities) -> JSONObject:
    record: dict[str, JSON] = {**asdict(capabilities), "enforces": sorted(capabilities.enforces)}
    return record


def _print(finding: Finding) -> None:
    if not finding.works:
        print(f"--  {finding.backend}: {finding.detail}")
        return
    able = finding.capabilities
    enforced = cast("list[str]", able["enforces"])
    loose = [each for each in _RESOURCES if each not in enforced]
    print(f"ok  {finding.backend}: runs commands; isolation: {able['tier']}")
    print(f"      network: {', '.join(cast('tuple[str, ...]', able['network_modes']))}")
    print(f"      can: {', '.join(each for each in _ABILITIES if able[each]) or 'nothing more'}")
    print(f"      enforces: {', '.join(enforced) or 'no resource'}")
    if loose:
        print(f"      does not enforce: {', '.join(loose)} (a sandbox that asks for one is refused)")
