"""`tumbler sandbox serve`: put a backend behind HTTP; knows no server."""

import argparse
import logging
import os
import sys
from typing import cast

from tumbler.cli.sandboxes.reach import TOKEN_VARIABLE, URL_VARIABLE, Shelf
from tumbler.contracts.sandbox import SandboxBackend
from tumbler.contracts.sandbox_service import SandboxService
from tumbler.contracts.values import JSON

__all__ = ["serve"]


async def serve(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    shelf = Shelf.of(args.registry)
    overrides = [] if args.owner is None else [f"owner={args.owner}"]
    backend = cast("SandboxBackend", shelf.backend(args.backend, {}, [*args.set, *overrides]))
    service = cast("SandboxService", shelf.backend(args.service or shelf.service(), _settings(args), args.service_set))
    await service.serve(backend, environments=shelf, on_ready=lambda url: _announce(url, args))
    return 0


def _settings(args: argparse.Namespace) -> dict[str, JSON]:
    """Return the service's settings that have options of their own."""
    settings: dict[str, JSON] = {}
    for name in ("host", "port"):
        if getattr(args, name) is not None:
            settings[name] = getattr(args, name)
    if args.allow_path:
        settings["host_paths"] = args.allow_path
    token = os.environ.get(TOKEN_VARIABLE)
    if token:
        settings["tenants"] = [{"name": "default", "token": token}]
    return settings


def _announce(url: str, args: argparse.Namespace) -> None:
    print(f"serving {args.backend} at {url}", flush=True)
    if args.host in ("0.0.0.0", "::"):
        print("  other machines put this machine's name or address in the place of the host", file=sys.stderr)
    print(f"  export {URL_VARIABLE}={url}   # for `tumbler sandbox`", file=sys.stderr)
    print(f"  export E2B_API_URL={url} E2B_SANDBOX_URL={url}   # for E2B's clients", file=sys.stderr)
