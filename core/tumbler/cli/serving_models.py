"""What `tumbler gateway` does: finds who answers, serves it, and tells how to reach it; knows no server."""

import argparse
import logging
import os
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import cast

from tumbler.cli.agents.naming import backend_or_default
from tumbler.cli.sandboxes.reach import Shelf
from tumbler.contracts.gateway import Endpoint, GatewayService, UpstreamServer
from tumbler.contracts.inference import InferenceBackend, Sampling
from tumbler.contracts.values import JSON
from tumbler.errors import CapabilityError, ComponentNotFoundError, RegistryError, RunError
from tumbler.registry.overrides import apply_overrides

__all__ = ["serve"]


async def serve(args: argparse.Namespace) -> None:
    """Serve until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    shelf = Shelf.of(args.registry)
    settings = _settings(args)
    name = args.gateway or _only_gateway(shelf)
    gateway = shelf.backend(name, settings["gateway"])
    if not isinstance(gateway, GatewayService):
        raise CapabilityError(f"the gateway {name!r} serves runs alone, and no model by itself; name another --gateway")
    sampling = Sampling(max_tokens=args.max_tokens, temperature=1.0 if args.temperature is None else args.temperature)
    admin = None if args.admin_env is None else _secret(args.admin_env)
    async with _source(args, shelf, settings["inference"]) as source:
        await gateway.serve(
            source,
            folder=args.folder,
            sessions=args.session or ["main"],
            sampling=sampling,
            admin=admin,
            on_ready=_announce,
        )


def _settings(args: argparse.Namespace) -> Mapping[str, dict[str, JSON]]:
    """Return the settings of the gateway and of the inference backend."""
    gateway: dict[str, JSON] = {
        name: str(value) for name in ("record", "replay") if (value := getattr(args, name)) is not None
    }
    if args.port is not None:
        gateway["port"] = args.port
    if args.model is not None:
        gateway["model"] = args.model
    settings: dict[str, dict[str, JSON]] = {"gateway": gateway, "inference": {}}
    apply_overrides(settings, args.set)
    if set(settings) != {"gateway", "inference"}:
        unknown = ", ".join(sorted(set(settings) - {"gateway", "inference"}))
        raise RegistryError(f"--set {unknown}: a setting is one of gateway.… or inference.…")
    return settings


def _only_gateway(shelf: Shelf) -> str:
    found = shelf.backends("gateway")
    if len(found) != 1:
        raise ComponentNotFoundError(
            f"{len(found)} plugins offer a gateway ({', '.join(found) or 'none'}): name one with --gateway"
        )
    return found[0]


@asynccontextmanager
async def _source(
    args: argparse.Namespace, shelf: Shelf, settings: Mapping[str, JSON]
) -> AsyncIterator[InferenceBackend | UpstreamServer]:
    """Yield who answers; a backend is started, and closed at the end."""
    if args.upstream is not None:
        given = {} if args.context_length is None else {"context_length": args.context_length}
        key = None if args.api_key_env is None else _secret(args.api_key_env)
        yield UpstreamServer(url=args.upstream, model=args.model, api_key=key, **given)
        return
    shelf, name = backend_or_default(shelf, args.inference, "inference", option="--inference NAME")
    backend = cast("InferenceBackend", shelf.backend(name, settings))
    try:
        await backend.start(args.model_folder)
        yield backend
    finally:
        await backend.close()


def _secret(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise RunError(f"the variable {variable} holds no secret; set it, or name another one")
    return value


def _announce(endpoints: Mapping[str, Endpoint]) -> None:
    """Print where the sessions are, ready for a shell."""
    first = next(iter(endpoints.values()))
    where = f"{first.url} and {first.socket}" if first.socket is not None else first.url
    print(f"serving {first.model} at {where}")
    for name, endpoint in endpoints.items():
        url, secret = shlex.quote(endpoint.url), shlex.quote(endpoint.secret)
        print(f"\nsession {name}, secret {endpoint.secret}")
        print(f"  export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY={secret}")
        print(f"  export ANTHROPIC_BASE_URL={url} ANTHROPIC_AUTH_TOKEN={secret}")
    print("\nCtrl-C ends the sessions and writes their files", flush=True)
