"""`tumbler sandbox ls`, `rm` and `reap`: what lives, and what should not."""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict

from tumbler.cli.sandboxes.reach import find, managed, opened
from tumbler.contracts.sandbox_control import SandboxInfo
from tumbler.errors import SandboxDied, SandboxNotFound

__all__ = ["listing", "reap", "remove"]


async def listing(args: argparse.Namespace) -> int:
    """Print the living sandboxes."""
    async with opened(args) as backend:
        infos = await managed(backend).list(labels=dict(args.label), mine=False)
    if args.json:
        print(json.dumps([asdict(info) for info in infos], indent=2, default=dict))
    else:
        _print_table(infos)
    return 0


async def remove(args: argparse.Namespace) -> int:
    """Delete the sandboxes that are named, or all; return 1 if one was not there."""
    missing = 0
    async with opened(args) as backend:
        identities = args.sandboxes
        if args.all:
            identities = [info.id for info in await managed(backend).list()]
        for identity in identities:
            try:
                await (await find(backend, identity)).delete()
                print(identity)
            except (SandboxNotFound, SandboxDied):
                print(f"there is no living sandbox {identity!r}")
                missing = 1
    return missing


async def reap(args: argparse.Namespace) -> int:
    """Remove what is past its time and what dead owners left."""
    # Some backends clear up when they start, so the count is of what is left then.
    async with opened(args) as backend:
        count = await managed(backend).reconcile()
    print(f"reaped: {count} {'sandbox' if count == 1 else 'sandboxes'}, besides those cleared away at the start")
    return 0


def _print_table(infos: Sequence[SandboxInfo]) -> None:
    now = time.time()
    rows = [("ID", "NAME", "STATE", "TIER", "IMAGE", "AGE", "EXPIRES", "LABELS")]
    rows += [
        (
            info.id,
            info.name or "-",
            info.state,
            info.tier,
            _short(info.image or "-"),
            _span(now - info.created),
            f"in {_span(info.expires - now)}",
            ",".join(f"{key}={value}" for key, value in sorted(info.labels.items())) or "-",
        )
        for info in infos
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _short(image: str) -> str:
    """Shorten the hash by which an engine knows an image without a name."""
    digits = image.removeprefix("sha256:")
    return digits[:12] if len(digits) == 64 and set(digits) <= set("0123456789abcdef") else image


def _span(seconds: float) -> str:
    whole = max(0, round(seconds))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= 2 * length:
            return f"{whole // length}{unit}"
    return f"{whole}s"
