"""What a worker process runs: episodes that are asked for through one connection, until that ends."""

import asyncio
import os
import pickle
import select
import signal
import socket
import threading
import time
from collections.abc import Mapping

from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import TextTokenizer
from tumbler.trajectory.record import Trajectory
from tumbler_backends.execution.hosting import EpisodeHost
from tumbler_backends.execution.local.engines import EngineName, called_engines
from tumbler_backends.execution.local.peer import Handler, Peer

__all__ = ["GRACE_S", "main"]

GRACE_S = 30.0
"""How long the worker goes on at most when its owner is gone, to delete its sandboxes."""


def main(descriptor: int, index: int) -> None:
    """Serve the connection; return when it has ended and everything is taken down."""
    # A Ctrl-C reaches the whole process group; the owner decides what comes of its workers.
    # Not ignored by the system: that would be handed on to all that is started here.
    signal.signal(signal.SIGINT, lambda _number, _frame: None)
    threading.Thread(target=_watch, args=[os.dup(descriptor)], daemon=True, name="tumbler-owner").start()
    asyncio.run(_serve(socket.socket(fileno=descriptor), index))


async def _serve(connection: socket.socket, index: int) -> None:
    host = EpisodeHost()

    async def open_recipe(recipe: bytes, tokenizers: Mapping[EngineName, TextTokenizer]) -> None:
        await host.open(pickle.loads(recipe), called_engines(peer, tokenizers))

    async def run(request: RolloutRequest) -> Trajectory:
        return await host.run(request)

    reader, writer = await asyncio.open_unix_connection(sock=connection)
    handlers: dict[str, Handler] = {"open": open_recipe, "run": run}
    peer = Peer(reader, writer, handlers, name=f"worker {index}, process {os.getpid()}")
    try:
        await peer.serve()
    finally:
        await host.close()


def _watch(descriptor: int) -> None:
    """End this process when its owner has been gone for a while, whatever the event loop is busy with."""
    poller = select.poll()
    poller.register(descriptor, select.POLLRDHUP)
    poller.poll()
    time.sleep(GRACE_S)
    os._exit(os.EX_UNAVAILABLE)
