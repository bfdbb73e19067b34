"""The options that describe a new sandbox."""

import argparse
import re
from typing import Final, Literal

from tumbler.contracts.sandbox import Mount, NetworkPolicy, Resources, SandboxSpec

__all__ = ["add_spec_options", "pair", "spec_of"]

_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def add_spec_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    new = parser.add_argument_group("a new sandbox")
    new.add_argument("--image", help="the root file system, as the backend names it")
    new.add_argument("--template", help="the id of a snapshot")
    new.add_argument("--user", help="who runs commands")
    new.add_argument("--workdir", default=SandboxSpec.workdir, help="default: %(default)s")
    new.add_argument("--cpus", type=float)
    new.add_argument("--memory", type=_size, metavar="SIZE", help="such as 512m or 2g")
    new.add_argument("--processes", type=int)
    new.add_argument("--network", choices=["none", "allowlist", "public"], help="default: none")
    new.add_argument("--allow", action="append", default=[], metavar="HOST", help="a host that may be reached")
    new.add_argument("--mount", action="append", default=[], type=_mount, metavar="SOURCE:TARGET[:rw]")
    new.add_argument("--ttl", type=float, default=SandboxSpec.ttl, help="seconds; default: %(default)s")
    new.add_argument("--name")
    new.add_argument("--label", action="append", default=[], type=pair, metavar="KEY=VALUE")


def spec_of(args: argparse.Namespace) -> SandboxSpec:
    """Return the spec that the options describe."""
    mode: Literal["none", "allowlist", "public"] = args.network or ("allowlist" if args.allow else "none")
    return SandboxSpec(
        image=args.image,
        template=args.template,
        user=args.user,
        workdir=args.workdir,
        resources=Resources(cpus=args.cpus, memory_bytes=args.memory, processes=args.processes),
        network=NetworkPolicy(mode=mode, hosts=tuple(args.allow)),
        mounts=tuple(args.mount),
        ttl=args.ttl,
        name=args.name,
        labels=dict(args.label),
    )


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+)([kmg]?)i?b?", text.lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 512m or 2g")
    return int(match[1]) * _UNITS[match[2]]


def _mount(text: str) -> Mount:
    parts = text.split(":")
    if len(parts) not in (2, 3) or parts[2:] not in ([], ["ro"], ["rw"]):
        raise argparse.ArgumentTypeError(f"{text!r} is no mount such as /data:/data or /data:/data:rw")
    return Mount(source=parts[0], target=parts[1], writable=parts[2:] == ["rw"])


def pair(text: str) -> tuple[str, str]:
    """Return key and value of `KEY=VALUE`."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value
