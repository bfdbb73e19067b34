"""One of Tumbler's sandbox backends as a contender: `tumbler_backend.py BACKEND SETTINGS`, the settings as JSON."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable

from worker import MEBIBYTE, serve

from tumbler.contracts.sandbox import SandboxBackend, SandboxSpec
from tumbler.plugins import PluginHost


class TumblerBackend:
    """The measures, each returning seconds."""

    def __init__(self) -> None:
        """Start the backend, and the sandbox that all measures but `cycle` share."""
        identity, settings = sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
        host = PluginHost.load()
        model = host.settings_model("backend", identity)
        backend = host.build("backend", identity, model.model_validate(settings))
        assert isinstance(backend, SandboxBackend)
        self._backend = backend
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(backend.start())
        self._sandbox = self._loop.run_until_complete(backend.create(SandboxSpec()))
        self._session = self._loop.run_until_complete(self._sandbox.session())

    def cycle(self, count: int) -> float:
        """A sandbox, its first command, and its end; the median of all, times their number."""
        seconds = []

        async def run() -> None:
            for _ in range(count):
                began = time.perf_counter()
                sandbox = await self._backend.create(SandboxSpec())
                result = await sandbox.exec(["true"])
                await sandbox.delete()
                seconds.append(time.perf_counter() - began)
                assert result.exit_code == 0

        self._timed(run())
        return sorted(seconds)[count // 2] * count

    def exec(self, count: int) -> float:
        """Commands one after another."""

        async def run() -> None:
            for _ in range(count):
                assert (await self._sandbox.exec(["true"])).exit_code == 0

        return self._timed(run())

    def session(self, count: int) -> float:
        """Commands in one shell session, one after another."""

        async def run() -> None:
            for number in range(count):
                reply = await self._session.run(f"echo {number}")
                assert reply.stdout == b"%d\n" % number, reply

        return self._timed(run())

    def files(self, count: int) -> float:
        """A MiB of text written and read back, so many times."""
        content = b"x" * MEBIBYTE

        async def run() -> None:
            for _ in range(count):
                await self._sandbox.write("file", content)
                assert await self._sandbox.read("file") == content

        return self._timed(run())

    def close(self) -> None:
        """Delete the sandboxes."""
        self._loop.run_until_complete(self._session.close())
        self._loop.run_until_complete(self._backend.close())
        self._loop.close()

    def _timed(self, work: Awaitable[None]) -> float:
        began = time.perf_counter()
        self._loop.run_until_complete(work)
        return time.perf_counter() - began


if __name__ == "__main__":
    serve(TumblerBackend)
