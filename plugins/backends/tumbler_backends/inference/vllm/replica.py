"""One server as the fleet sees it: up or not, how busy, and calls that notice when it is gone."""

import asyncio
from collections.abc import Mapping
from typing import Any

from tumbler.errors import InferenceError
from tumbler_backends.inference.vllm.calling import Address, ServerGoneError
from tumbler_backends.inference.vllm.origins import Origin
from tumbler_backends.inference.vllm.reports import require_served
from tumbler_backends.inference.vllm.transfer import Weights

__all__ = ["Replica"]

_PROBE_SECONDS = 20.0
"""In which a server whose process still answers tells its status."""


class Replica:
    """One server."""

    def __init__(
        self, origin: Origin, *, restarts: int, drain: bool, dtype: str, tolerance: float | None, timeout: float
    ) -> None:
        """Take where the server comes from; nothing is started before `open`."""
        self.up = False
        self.in_flight = 0
        self.sessions = 0
        self.restarts_left = restarts
        self.lost = ""
        """Why it will not come back; empty as long as it may."""
        self._origin = origin
        self._drain = drain
        self._dtype = dtype
        self._tolerance = tolerance
        self._timeout = timeout
        self._doubtful: int | None = None
        """The version that is being put in, or was found not to be served as it was sent."""
        self._doubt = asyncio.Lock()
        """Held until that is known."""
        self._refusal = ""
        self._suspected = asyncio.Event()
        self._address: Address | None = None

    async def open(self) -> None:
        """Bring the server up; it serves nothing before `serve`."""
        self._suspected.clear()
        self._address = await self._origin.open()

    async def serve(self, base: Weights, current: Weights) -> None:
        """Let it serve the current weights; `base` are those of the model folder."""
        if current is not base or not self._origin.loads_model:
            await self.load(current)
        self.up = True

    async def load(self, weights: Weights) -> None:
        """Have the server serve the weights, and make sure that it does; wrong ones serve nobody."""
        async with self._doubt:
            self._doubtful, self._refusal = weights.version, f"weights of version {weights.version} were not checked"
            try:
                await self._load(weights)
            except InferenceError as error:
                self._refusal = str(error)
                raise
            self._doubtful = None

    async def generate(self, body: Mapping[str, object]) -> dict[str, Any]:
        """Return the server's reply; raise `InferenceError` for one of weights that are not those that were sent."""
        self.in_flight += 1
        try:
            reply = await self._call("/generate", body)
            if reply["version"] == self._doubtful:
                async with self._doubt:
                    if reply["version"] == self._doubtful:
                        raise InferenceError(self._refusal)
            return reply
        finally:
            self.in_flight -= 1

    async def _load(self, weights: Weights) -> None:
        canary = list(weights.canary.token_ids) if weights.canary else []
        order = {"path": str(weights.path), "version": weights.version, "drain": self._drain, "canary": canary}
        try:
            async with asyncio.timeout(self._timeout):
                report = await self._call("/weights", order)
        except TimeoutError as error:
            raise InferenceError(
                f"weights of version {weights.version} took vLLM longer than {self._timeout:g} seconds; the bound is "
                "the setting `request_timeout`"
            ) from error
        require_served(report, weights, dtype=self._dtype, tolerance=self._tolerance)

    async def probe(self) -> None:
        """Find out whether the server still answers."""
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await self._call("/status", {})
        except TimeoutError:
            self.up = False
            self._suspected.set()
        except InferenceError:
            return  # gone, which the call has noted

    async def wait_gone(self) -> str:
        """Return once the server is gone, with what is known of its end."""
        waits = [asyncio.ensure_future(self._suspected.wait()), asyncio.ensure_future(self._origin.wait_dead())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            self.up = False
            reason = await self._origin.describe()
            await self._origin.end()
            return reason
        finally:
            for wait in waits:
                wait.cancel()

    async def close(self) -> None:
        """End the server if it is the run's own."""
        self.up = False
        await self._origin.end()

    async def _call(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        if self._address is None:
            raise ServerGoneError("the vLLM server has not been started")
        try:
            return await self._address.call(path, body)
        except ServerGoneError as error:
            self.up = False
            self._suspected.set()
            raise ServerGoneError(f"{error}; {await self._origin.describe()}", reached=error.reached) from error
