"""Where servers come from: launched as processes of the run's own, or running already."""

import asyncio
import json
import os
import secrets
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tumbler.errors import InferenceError
from tumbler_backends.inference.vllm.calling import Address, ServerGoneError

__all__ = ["Attached", "Launched", "Origin", "find_python"]

_SERVER = Path(__file__).parent / "server" / "__main__.py"
_PYTHON_VARIABLE = "TUMBLER_VLLM_PYTHON"
_DEFAULT_PYTHON = "~/.cache/tumbler/vllm/bin/python"
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}
"""Nothing is reported or fetched; on processors, one GiB of cache is plenty for small models."""
_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
"""What the run's own environment says about Python must not lead the server's into it."""
_TAIL_BYTES = 4000
_END_SECONDS = 10.0
_AUTOPSY_SECONDS = 2.0
_POLL_SECONDS = 1.0


class Origin(Protocol):
    """Brings a server up, again if need be."""

    loads_model: bool
    """Whether a server that has come up has the run's model folder as version 0."""

    async def open(self) -> Address:
        """Return the address of a server that is up; raise `InferenceError` if none comes up."""
        ...

    async def wait_dead(self) -> None:
        """Return once the server is known to be dead."""
        ...

    async def describe(self) -> str:
        """Return what is known of its end."""
        ...

    async def end(self) -> None:
        """End the server if it is the run's own; safe to call twice."""
        ...


def find_python(setting: Path | None) -> Path:
    """Return the Python that has vLLM; raise `InferenceError` if there is none."""
    path = Path(setting or os.environ.get(_PYTHON_VARIABLE) or _DEFAULT_PYTHON).expanduser()
    if not os.access(path, os.X_OK):
        raise InferenceError(
            f"no Python with vLLM at {path}. Make an environment with: sh tools/vllm-environment.sh; or set `python` "
            f"of the vllm backend, or {_PYTHON_VARIABLE}, to the Python of one that has vLLM"
        )
    return path


@dataclass(kw_only=True)
class Launched:
    """A process of the run's own, which ends with it."""

    python: Path
    model: Path
    engine: Mapping[str, object]
    environment: Mapping[str, str]
    port: int
    log: Path
    remove: tuple[Path, ...]
    """Folders that the server removes if the run dies."""
    start_timeout: float
    loads_model: bool = field(default=True, init=False)
    _process: Process | None = field(default=None, init=False)

    async def open(self) -> Address:
        """Start the process and wait until it serves."""
        await self.end()
        secret = secrets.token_urlsafe(24)
        process = self._process = await self._spawn()
        try:
            async with asyncio.timeout(self.start_timeout):
                port = await self._introduce(process, secret)
        except TimeoutError as error:
            await self.end(patience=0.0)
            raise InferenceError(
                f"the vLLM server was not up after {self.start_timeout:g} seconds (setting `start_timeout`)"
                f"{self._log_tail()}"
            ) from error
        except (OSError, ValueError, KeyError) as error:
            how = await self.describe()
            await self.end(patience=0.0)
            raise InferenceError(f"the vLLM server did not start: {how}") from error
        except BaseException:
            await self.end(patience=0.0)
            raise
        return Address(host="127.0.0.1", port=port, secret=secret)

    async def wait_dead(self) -> None:
        """Return once the process has ended."""
        if self._process is not None:
            await self._process.wait()

    async def describe(self) -> str:
        """Return the exit status and the end of the log; a process whose connection broke is given time to end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_AUTOPSY_SECONDS):
                await self.wait_dead()
        status = None if self._process is None else self._process.returncode
        how = (
            "it gave no answer" if status is None else f"killed by signal {-status}" if status < 0 else f"exit {status}"
        )
        return f"{how}{self._log_tail()}"

    async def end(self, *, patience: float = _END_SECONDS) -> None:
        """Close the pipe by which the server knows its owner, and kill it if that does not end it in time."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(patience):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its own group, with whatever it has started
            await process.wait()

    async def _spawn(self) -> Process:
        inherited = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                self.python,
                _SERVER,
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                env={**_ENVIRONMENT, **inherited, **self.environment},
                start_new_session=True,  # an interrupt at the terminal is the run's to handle
            )

    async def _introduce(self, process: Process, secret: str) -> int:
        """Tell the server what to serve, and return its port once it does."""
        service = {
            "model": str(self.model),
            "secret": secret,
            "port": self.port,
            "engine": dict(self.engine),
            "owner": os.getpid(),
            "remove": [str(folder) for folder in self.remove],
        }
        if process.stdin is None or process.stdout is None:
            raise ValueError("the server has no pipes")
        process.stdin.write(json.dumps(service).encode() + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
        if not line:
            await process.wait()
        return int(json.loads(line)["port"])

    def _log_tail(self) -> str:
        try:
            tail = self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            tail = ""
        return f"\nthe end of its log:\n{tail}" if tail else "; its log is empty"


@dataclass(kw_only=True)
class Attached:
    """A server that someone else has started, and starts again."""

    address: Address
    start_timeout: float
    loads_model: bool = field(default=False, init=False)

    async def open(self) -> Address:
        """Wait until the server answers."""
        try:
            async with asyncio.timeout(self.start_timeout):
                while not await self._answers():  # noqa: ASYNC110  # another process answers, and sets no event
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError as error:
            raise InferenceError(
                f"no vLLM server answered at {self.address.host}:{self.address.port} for {self.start_timeout:g} "
                "seconds (setting `start_timeout`)"
            ) from error
        return self.address

    async def wait_dead(self) -> None:
        """Wait for ever: only a call shows that such a server is gone."""
        await asyncio.Event().wait()

    async def describe(self) -> str:
        """Return where it was."""
        return f"{self.address.host}:{self.address.port} gave no answer"

    async def end(self) -> None:
        """Leave the server to whoever started it."""

    async def _answers(self) -> bool:
        try:
            await self.address.call("/status", {})
        except ServerGoneError:
            return False
        return True
