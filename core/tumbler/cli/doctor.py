"""`tumbler doctor`: tell what works on this machine; knows no plugin by name."""

import argparse
import asyncio
import json
import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tumbler import __version__
from tumbler.cli.plugins import plugin_table
from tumbler.errors import MissingExtraError, RegistryError
from tumbler.markers import PROJECT
from tumbler.plugins.host import PluginHost
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from tumbler.contracts.sandbox import SandboxBackend

__all__ = ["add_arguments", "run"]

DEVELOPMENT_EXTRAS = frozenset({"dev", "docs"})
START_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    name: str
    ok: bool
    detail: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--registry", type=Path, help="whose lists under [plugins] apply; default: registry.toml, if any"
    )


def run(args: argparse.Namespace) -> int:
    """Carry out the command; exit with 1 if a plugin is broken. What is merely not installed is no failure."""
    table = plugin_table(args.registry)
    host = PluginHost.load(allow=table.allow, disable=table.disable)
    plugins = _plugins(host)
    findings = [*_machine(), *plugins, *_extras(), _bubblewrap(), *_sandboxes(host)]
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    return 0 if all(finding.ok for finding in plugins) else 1


def _print(findings: list[Finding]) -> None:
    topic = ""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        if finding.topic != topic:
            topic = finding.topic
            print(f"{topic}:")
        print(f"  {'ok' if finding.ok else '--'}  {finding.name.ljust(width)}  {finding.detail}")


def _machine() -> list[Finding]:
    facts = {
        "tumbler": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}",
        "memory": _memory(),
    }
    return [Finding(topic="machine", name=name, ok=True, detail=detail) for name, detail in facts.items()]


def _memory() -> str:
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return f"{installed / 2**30:.1f} GiB"
    return f"{min(limit, installed) / 2**30:.1f} GiB (of {installed / 2**30:.1f} GiB installed)"


def _plugins(host: PluginHost) -> list[Finding]:
    loaded = sum(info.status == "ok" for info in host.plugins)
    problems = host.check()
    summary = Finding(
        topic="plugins", name="loaded", ok=not problems, detail=f"{loaded} of {len(host.plugins)} that were found"
    )
    return [summary, *(Finding(topic="plugins", name="problem", ok=False, detail=problem) for problem in problems)]


def _extras() -> list[Finding]:
    """Return one finding for each extra of Tumbler's own distribution: what of it is installed."""
    from packaging.requirements import Requirement

    try:
        own = distribution(PROJECT)
    except PackageNotFoundError:
        return [Finding(topic="optional packages", name=PROJECT, ok=False, detail="is not installed: pip install -e .")]
    requirements = [Requirement(text) for text in own.requires or ()]
    findings = []
    for extra in own.metadata.get_all("Provides-Extra") or ():
        if extra not in DEVELOPMENT_EXTRAS:
            wanted = [each for each in requirements if each.marker and each.marker.evaluate({"extra": extra})]
            findings.append(_extra(extra, {each.name: each.specifier for each in wanted if each.name != PROJECT}))
    return findings


def _extra(extra: str, packages: "dict[str, SpecifierSet]") -> Finding:
    found = {package: _version(package) for package in sorted(packages)}
    missing = [f"{package} is not installed" for package, installed in found.items() if installed is None]
    missing += [
        f"{package} {installed} is not {packages[package]}"
        for package, installed in found.items()
        if installed is not None and not packages[package].contains(installed, prereleases=True)
    ]
    detail = ", ".join(f"{package} {installed}" for package, installed in found.items())
    if missing:
        detail = f"{', '.join(missing)}; get it with: pip install '{PROJECT}[{extra}]'"
    return Finding(topic="optional packages", name=extra, ok=not missing, detail=detail)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _bubblewrap() -> Finding:
    path = shutil.which("bwrap")
    if path is None:
        detail = "not found; Linux distributions package it as 'bubblewrap'"
        return Finding(topic="sandboxes", name="bwrap", ok=False, detail=detail)
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=START_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(topic="sandboxes", name="bwrap", ok=False, detail=f"{path} does not run: {error}")
    return Finding(topic="sandboxes", name="bwrap", ok=True, detail=f"{answer.stdout.strip()} ({path})")


def _sandboxes(host: PluginHost) -> list[Finding]:
    """Return one finding for each sandbox backend: whether it starts here with its default settings."""
    backends = [
        each
        for each in host.components("backend")
        if isinstance(each.spec, BackendSpec) and "sandbox" in each.spec.roles
    ]
    return [_sandbox(host, each.id) for each in backends]


def _sandbox(host: PluginHost, backend_id: str) -> Finding:
    ok, detail = False, ""
    try:
        asyncio.run(_start(host, backend_id))
    except MissingExtraError as error:
        detail = str(error)
    except RegistryError as error:
        detail = f"has no usable defaults; {error}"
    except Exception as error:  # noqa: BLE001 - whatever a backend raises is what there is to tell
        detail = f"does not start: {type(error).__name__}: {error}"
    else:
        ok, detail = True, "starts"
    return Finding(topic="sandboxes", name=backend_id, ok=ok, detail=detail)


async def _start(host: PluginHost, backend_id: str) -> None:
    backend = cast("SandboxBackend", host.build("backend", backend_id, {}))
    try:
        async with asyncio.timeout(START_SECONDS):
            await backend.start()
    finally:
        await backend.close()
