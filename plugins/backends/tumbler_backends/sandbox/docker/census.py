"""All sandboxes of all owners, as one engine knows them."""

import json
from collections.abc import Sequence
from pathlib import Path

import aiodocker

from tumbler.errors import SandboxUnavailable
from tumbler_backends.sandbox.docker.engine import Engine
from tumbler_backends.sandbox.docker.owners import Record, label_filter, record_of

__all__ = ["all_records"]


async def all_records(engine: Engine, root: Path) -> Sequence[Record]:
    """Return the records of all sandboxes, those that have ended too, with what is written down below `root`."""
    request = engine.client.containers.list(all=True, filters=json.dumps(label_filter()))
    try:
        containers = await engine.ask(request, "listing containers")
    except aiodocker.DockerError as error:
        raise SandboxUnavailable(f"the engine could not list its containers: {error.message}") from error
    records = [record_of(container._container) for container in containers]
    return [record.load(root) for record in records if record is not None]
