"""Hear of the packets that the rules refused, and pass them on to be recorded."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from tumbler_backends.sandbox.egress.packet_log import RefusedPacket, read_packets

__all__ = ["PacketDoor"]

_MESSAGE_BYTES: Final = 1 << 16
_MESSAGES_AT_ONCE: Final = 64


class PacketDoor:
    """The netlink socket of one namespace's log."""

    def __init__(self, door: socket.socket, heard: Callable[[RefusedPacket], None]) -> None:
        """Call `heard` for each packet from now on, in the running event loop."""
        self._door = door
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(door, self._hear)

    def close(self) -> None:
        """Hear no more."""
        self._loop.remove_reader(self._door)
        self._door.close()

    def _hear(self) -> None:
        for _ in range(_MESSAGES_AT_ONCE):
            try:
                message = self._door.recv(_MESSAGE_BYTES)
            except OSError:  # nothing more, or so much that the kernel dropped some (ENOBUFS)
                return
            for packet in read_packets(message):
                self._heard(packet)
