"""Start a relay in a sandbox: which interpreter is there, how the program gets there; knows no frames."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tumbler.contracts.gateway import Endpoint
from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.sandbox_process import SpawningSandbox
from tumbler.errors import CapabilityError, ContractError
from tumbler_agents.process.files import write_file
from tumbler_agents.process.relay.outside import OUTPUT_BYTES, Connect, Relay

__all__ = ["OpenRelay", "open_relay"]

_START_S: Final = 60.0
_PYTHON_CHECK: Final = "import sys; sys.exit(sys.version_info < (3, 8))"
_NODE_CHECK: Final = "process.exit(0)"


@dataclass(frozen=True, kw_only=True)
class OpenRelay:
    """A relay that listens."""

    relay: Relay
    endpoint: Endpoint
    """The gateway as the sandbox reaches it."""


@asynccontextmanager
async def open_relay(
    sandbox: Sandbox, endpoint: Endpoint, *, folder: str, interpreters: Sequence[str] = ()
) -> AsyncIterator[OpenRelay]:
    """Let a sandbox reach the endpoint on its own loopback for as long as the context is open.

    Args:
        sandbox: where to; its processes must share a loopback, as those of one network namespace do.
        endpoint: what may be reached.
        folder: where the program goes, inside.
        interpreters: paths of Python or Node inside to try where the names find none.

    Raises `CapabilityError` where the sandbox cannot keep a process running or has no interpreter, and `SandboxError`
    where the program does not come up.
    """
    if not isinstance(sandbox, SpawningSandbox):
        raise CapabilityError("the sandbox backend cannot keep a process running, which a relay to the gateway is")
    command = await _command(sandbox, folder, interpreters)
    process = await sandbox.spawn(command, stdin=True, max_output=OUTPUT_BYTES, tag="relay")
    relay = Relay(process, _connector(endpoint))
    try:
        port = await relay.start(_START_S)
        yield OpenRelay(relay=relay, endpoint=replace(endpoint, url=f"http://127.0.0.1:{port}", socket=None))
    finally:
        await relay.close()


async def _command(sandbox: Sandbox, folder: str, interpreters: Sequence[str]) -> list[str]:
    for name in ("python3", "python", *interpreters, "node"):
        is_node = name.rpartition("/")[2].startswith("node")
        check = ["-e", _NODE_CHECK] if is_node else ["-I", "-c", _PYTHON_CHECK]
        result = await sandbox.exec([name, *check], timeout=_START_S)
        if result.exit_code == 0 and not result.timed_out:
            source = Path(__file__).with_name("inside.cjs" if is_node else "inside.py")
            path = f"{folder}/{source.name}"
            await write_file(sandbox, path, await asyncio.to_thread(source.read_bytes))
            return [name, path] if is_node else [name, "-I", path]
    raise CapabilityError(
        "a sandbox without a network reaches the gateway through a relay, which needs a Python of 3.8 or later, or "
        "Node, and neither runs in this one; choose another image, or add one of them"
    )


def _connector(endpoint: Endpoint) -> Connect:
    """Return what connects to the endpoint's address."""
    parts = urlsplit(endpoint.url)
    if parts.scheme != "http" or parts.hostname is None or parts.port is None or parts.path.strip("/"):
        raise ContractError(f"the gateway's address is {endpoint.url!r}; a relay needs one like http://127.0.0.1:4000")
    host, port = parts.hostname, parts.port

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(host, port)

    return connect
