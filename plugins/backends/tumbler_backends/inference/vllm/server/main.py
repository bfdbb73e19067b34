"""The server's main: read what to serve, load it, open the door, say so, and serve until the end."""

import argparse
import asyncio
import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from tumbler_backends.inference.vllm.server.door import Door, Refusal
from tumbler_backends.inference.vllm.server.engine import Ask, LoadEngine
from tumbler_backends.inference.vllm.server.life import end_with_owner
from tumbler_backends.inference.vllm.server.loop import EngineLoop, Order

__all__ = ["SECRET_VARIABLE", "Service", "main"]

SECRET_VARIABLE = "TUMBLER_VLLM_SECRET"
"""Holds the secret of a server that was not launched by the run which it serves."""

_LAST_ANSWERS_SECONDS = 1.0
"""Between the failure of the engine and the end, for those in flight to be told."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """What to serve, where, and for whom."""

    model: str
    secret: str
    host: str = "127.0.0.1"
    port: int = 0
    engine: Mapping[str, object] = field(default_factory=dict)
    owner: int = 0
    """The process to end with; 0 is nobody."""
    remove: Sequence[str] = ()
    """Folders to remove at the end, if the owner cannot."""


def main(load: LoadEngine) -> None:
    """Serve; returns never."""
    said = _take_output()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    service = _from_arguments() if len(sys.argv) > 1 else Service(**json.loads(sys.stdin.buffer.readline()))
    if service.owner:
        end_with_owner(service.owner, service.remove)
    try:
        asyncio.run(_serve(load, service, said))
    except BaseException:  # noqa: BLE001  # whatever it is: say it in the log and end, also if threads hang
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _take_output() -> TextIO:
    """Return the standard output, which from now on is what the log goes to for everyone else."""
    said = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return said


def _from_arguments() -> Service:
    parser = argparse.ArgumentParser(description="Serve a model for runs that attach to this server.")
    parser.add_argument("--model", required=True, help="the model's folder")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at")
    parser.add_argument("--port", type=int, default=8200, help="the port to listen at; 0 takes a free one")
    parser.add_argument("--engine", type=json.loads, default={}, help="vLLM's engine arguments, as a JSON object")
    arguments = parser.parse_args()
    secret = os.environ.get(SECRET_VARIABLE, "")
    if not secret:
        parser.error(f"set the environment variable {SECRET_VARIABLE} to a secret that the run knows, too")
    return Service(secret=secret, **vars(arguments))


async def _serve(load: LoadEngine, service: Service, said: TextIO) -> None:
    loop = EngineLoop(load, service.model, service.engine)
    await asyncio.wrap_future(loop.started)
    handlers = _Handlers(loop)
    paths = {"/generate": handlers.generate, "/weights": handlers.weights, "/status": handlers.status}
    port = await Door(paths, secret=service.secret).open(service.host, service.port)
    print(json.dumps({"port": port}), file=said, flush=True)  # the one line that the owner waits for
    try:
        await asyncio.wrap_future(loop.ended)
    finally:
        await asyncio.sleep(_LAST_ANSWERS_SECONDS)


class _Handlers:
    def __init__(self, loop: EngineLoop) -> None:
        self._loop = loop

    async def generate(self, body: dict[str, object]) -> Mapping[str, object]:
        ask = Ask(**body)  # type: ignore[arg-type]  # the engine refuses what it cannot serve
        try:
            return await asyncio.wrap_future(self._loop.generate(ask))
        except asyncio.CancelledError:
            self._loop.cancel(ask.id)
            raise

    async def weights(self, body: dict[str, object]) -> Mapping[str, object]:
        order = Order(**body)  # type: ignore[arg-type]  # as above
        if not await asyncio.to_thread(Path(order.path).exists):
            raise Refusal(400, f"there are no weights at {order.path}: the server must see the run's transfer_folder")
        return await asyncio.shield(asyncio.wrap_future(self._loop.update(order)))

    async def status(self, _body: dict[str, object]) -> Mapping[str, object]:
        return self._loop.status()
