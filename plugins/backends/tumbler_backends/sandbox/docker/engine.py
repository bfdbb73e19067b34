"""The connection to a Docker engine: bounded requests, typed errors, and what the engine can do."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import aiodocker
import aiohttp

from tumbler.errors import SandboxUnavailable
from tumbler_backends.sandbox.docker.settings import DockerSettings

__all__ = ["Engine", "EngineFacts"]

Result = TypeVar("Result")

_LONG: Final = 10
"""How many times as long as other requests downloads, builds and snapshots may take."""
_OLDEST_API: Final = (1, 40)
_PIECE_BYTES: Final = 1 << 18
_OK: Final = 200
_NO_CONNECTION: Final = 900
"""What aiodocker makes of an engine that is not there; no HTTP status is as high."""
_LAST_PING_S: Final = 1.0
_PING_S: Final = 1.0
_RETRY_S: Final = 0.5
_ADVICE: Final = (
    "start an engine (`systemctl start docker`, or `dockerd` as root), install one with `apt-get install docker.io`, "
    "name its address in the setting `host` or in DOCKER_HOST, and make sure that this user may open its socket "
    "(the group `docker`)"
)


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """What the engine says of itself."""

    identity: str
    runtimes: frozenset[str]
    default_runtime: str
    limits: frozenset[str]
    """The fields of `Resources` that its machine can enforce."""
    gpus: bool


class Engine:
    """A connected engine. Every request has a bound, and an engine that is gone is `SandboxUnavailable`."""

    def __init__(self, client: aiodocker.Docker, address: str, facts: EngineFacts, settings: DockerSettings) -> None:
        """Take over what `connect` has found."""
        self.client = client
        self.address = address
        self.facts = facts
        self._settings = settings

    @classmethod
    async def connect(cls, settings: DockerSettings) -> "Engine":
        """Connect; raise `SandboxUnavailable` with what to do about it."""
        try:
            client = aiodocker.Docker(url=settings.host)
        except (AssertionError, ValueError, OSError) as error:  # aiodocker found no address at all
            raise SandboxUnavailable(f"no Docker engine was found: {_ADVICE}") from error
        address = str(client._connection_info)
        try:
            async with asyncio.timeout(settings.request_timeout):
                version = await client.version()
                info = await client.system.info()
        except (OSError, TimeoutError, aiohttp.ClientError, aiodocker.DockerError) as error:
            await client.close()
            raise SandboxUnavailable(f"the Docker engine at {address} does not answer: {error!r}. {_ADVICE}") from error
        if tuple(int(part) for part in str(version["ApiVersion"]).split(".")) < _OLDEST_API:
            await client.close()
            raise SandboxUnavailable(f"the Docker engine at {address} is too old: it has version {version['Version']}")
        return cls(client, address, _facts(info), settings)

    async def ask(self, request: Awaitable[Result], doing: str, *, long: bool = False) -> Result:
        """Wait for a request; what the engine refuses stays a `DockerError`."""
        seconds = self._settings.request_timeout * (_LONG if long else 1)
        try:
            async with asyncio.timeout(seconds):
                return await request
        except aiodocker.DockerError as error:
            if error.status < _NO_CONNECTION:
                raise
            raise SandboxUnavailable(f"the Docker engine is gone while {doing}: {error.message}") from error
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            raise SandboxUnavailable(
                f"the Docker engine at {self.address} failed while {doing}: {str(error) or f'no answer in {seconds} s'}"
            ) from error

    async def answers(self, timeout: float) -> bool:
        """Tell whether the engine answers within `timeout` seconds."""
        try:
            async with (
                asyncio.timeout(timeout),
                self.client.session.get(f"{self.client.docker_host}/_ping") as response,
            ):
                return response.status == _OK
        except (OSError, TimeoutError, aiohttp.ClientError):
            return False

    async def outage(self) -> None:
        """Return once the engine has not answered for `engine_timeout` seconds."""
        loop = asyncio.get_running_loop()
        limit = self._settings.engine_timeout
        last = loop.time()
        # The last word is a fresh question: an event loop that stood still has missed answers that did come.
        while loop.time() - last < limit or await self.answers(_LAST_PING_S):
            asked = loop.time()
            if await self.answers(max(0.1, limit - (asked - last))):
                last = loop.time()
            await asyncio.sleep(min(_PING_S, limit / 4))

    async def presence(self) -> None:
        """Return once the engine answers."""
        back = False
        while not back:
            await asyncio.sleep(_RETRY_S)
            back = await self.answers(_RETRY_S)

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, path: str, *, params: Mapping[str, str], data: AsyncIterator[bytes] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make a request whose body, or whose answer's, does not fit into memory."""
        url = f"{self.client.docker_host}/{self.client.api_version}/{path}"
        timeout = aiohttp.ClientTimeout(total=self._settings.request_timeout * _LONG)
        try:
            async with self.client.session.request(
                method, url, params=params, data=data, timeout=timeout, headers={"Content-Type": "application/x-tar"}
            ) as response:
                if response.status >= 400:
                    raise aiodocker.DockerError(response.status, (await response.text())[:2000])
                yield response
        except (TimeoutError, aiohttp.ClientError) as error:
            raise SandboxUnavailable(f"the Docker engine at {self.address} failed: {error!r}") from error

    async def archive(self, container: str, path: str) -> AsyncIterator[bytes]:
        """Yield a tar of a folder of the container's own file system: what is mounted over it is not seen."""
        async with self.stream("GET", f"containers/{container}/archive", params={"path": path}) as response:
            async for piece in response.content.iter_chunked(_PIECE_BYTES):
                yield piece

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()

    def shares_this_machine(self) -> bool:
        """Tell whether the engine sees this process's files under the same names, and its processes by the same ids."""
        if not self.address.startswith("unix://"):
            return False
        pid = _peer(self.address.removeprefix("unix://"))
        if not pid:  # not to be seen from here: this process runs in a container that was lent the socket
            return False
        try:
            own, other = Path("/").stat(), Path(f"/proc/{pid}/root/").stat()
            return (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino)
        except OSError:
            return False


def _peer(path: str) -> int:
    """Return the process that listens on a unix socket; 0 where that cannot be told."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(path)
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return 0
    return int(struct.unpack("3i", credentials)[0])


def _facts(info: Mapping[str, object]) -> EngineFacts:
    flags = {
        "cpus": info.get("CpuCfsQuota") or info.get("CPUCfsQuota"),
        "memory_bytes": info.get("MemoryLimit"),
        "processes": info.get("PidsLimit"),
    }
    runtimes = info.get("Runtimes")
    known = frozenset(runtimes) if isinstance(runtimes, dict) else frozenset[str]()
    return EngineFacts(
        identity=str(info.get("ID") or os.uname().nodename),
        runtimes=known,
        default_runtime=str(info.get("DefaultRuntime") or "runc"),
        limits=frozenset(name for name, offered in flags.items() if offered) | {"open_files", "disk_bytes"},
        gpus="nvidia" in known,
    )
