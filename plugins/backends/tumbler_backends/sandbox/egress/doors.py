"""Open the gateway's sockets inside a network namespace; uses the standard library alone.

As root a thread inside calls `open_doors`. Elsewhere this file is run as a program inside, and
hands the sockets out over the UNIX socket that is its standard input.
"""

import contextlib
import errno
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["IP_PKTINFO", "LOG_GROUP", "Doors", "open_doors"]

LOG_GROUP: Final = 53
"""The number under which the kernel sends packets that the rules log."""

IP_PKTINFO: Final = 8
"""Linux' number; Python names it from 3.14 on."""

_BACKLOG: Final = 1024
_DNS_PORT: Final = 53
_IPV6_FREEBIND: Final = 78
_SIOCGIFFLAGS: Final = 0x8913
_IFF_UP: Final = 1
_NETLINK_NETFILTER: Final = 12
_LOG_CONFIG: Final = 0x0401
_REQUEST_ACK: Final = 0x5
_ERROR: Final = 2
_BIND: Final = 1
_COPY_PACKET: Final = 2
_SNAP_BYTES: Final = 128
_LOG_BUFFER_BYTES: Final = 1 << 18
_NETLINK_HEADER: Final = struct.Struct("=IHHII")
_GROUP_HEADER: Final = struct.Struct("!BBH")


@dataclass(frozen=True, kw_only=True)
class Doors:
    """The gateway's sockets in one namespace."""

    listeners: list[socket.socket]
    """For TCP: IPv4, and IPv6 if the kernel has it."""
    questions: list[socket.socket]
    """For DNS over UDP, likewise."""
    refused: socket.socket
    """Tells of the packets that the rules refused."""

    @classmethod
    def of(cls, doors: list[socket.socket]) -> "Doors":
        """Take the sockets in the order of `all`."""
        return cls(refused=doors[0], listeners=doors[1::2], questions=doors[2::2])

    @property
    def all(self) -> list[socket.socket]:
        """Return the log of refused packets, then a listener and a socket for DNS of each family."""
        pairs = zip(self.listeners, self.questions, strict=True)
        return [self.refused, *(door for pair in pairs for door in pair)]


def open_doors() -> Doors:
    """Open all sockets in the namespace of the calling thread; raises `OSError` that says which failed."""
    _refuse_other_interfaces()
    makers: list[tuple[str, Callable[[], socket.socket]]] = [
        ("hear of refused packets", _packet_log),
        ("listen on 127.0.0.1", lambda: _listener(socket.AF_INET, "127.0.0.1")),
        ("answer DNS over IPv4", lambda: _dns(socket.AF_INET, "0.0.0.0")),
    ]
    if _enable_ipv6():
        makers.append(("listen on ::1", lambda: _listener(socket.AF_INET6, "::1")))
        makers.append(("answer DNS over IPv6", lambda: _dns(socket.AF_INET6, "::")))
    doors: list[socket.socket] = []
    for what, maker in makers:
        try:
            doors.append(maker())
        except OSError as error:
            for door in doors:
                door.close()
            raise OSError(error.errno, f"the gateway cannot {what} inside the sandbox: {error.strerror}") from error
    return Doors.of(doors)


def _refuse_other_interfaces() -> None:
    """Raise where traffic could leave by another way than through the gateway."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        for _, name in socket.if_nameindex():
            request = struct.pack("16sh22x", name.encode(), 0)
            flags = struct.unpack_from("16sh", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
            if name != "lo" and flags & _IFF_UP:
                raise OSError(errno.EOPNOTSUPP, f"the network namespace has the interface {name}, not `lo` alone")


def _enable_ipv6() -> bool:
    """Switch IPv6 on, which Docker switches off: refused attempts can only be logged where they can be made."""
    for interface in ("all", "lo"):
        with (
            contextlib.suppress(OSError),
            Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").open("w") as switch,
        ):
            switch.write("0")
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            probe.bind(("::1", 0))
    except OSError:  # the kernel has no IPv6: then nothing can be aimed at it either
        return False
    return True


def _listener(family: int, address: str) -> socket.socket:
    return _bound(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC), address, 0)


def _dns(family: int, address: str) -> socket.socket:
    """Hear questions to every name server's address: inside, all addresses lead to the one who asks."""
    door = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    if family == socket.AF_INET:
        door.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    else:
        door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        door.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)  # to answer from the address that was asked
    return _bound(door, address, _DNS_PORT)


def _bound(door: socket.socket, address: str, port: int) -> socket.socket:
    try:
        if door.family == socket.AF_INET6:
            door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        door.bind((address, port))
        if door.type == socket.SOCK_STREAM:
            door.listen(_BACKLOG)
    except BaseException:
        door.close()
        raise
    door.setblocking(False)
    return door


def _packet_log() -> socket.socket:
    """Subscribe to the packets that the rules log (nfnetlink_log)."""
    door = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    try:
        door.bind((0, 0))
        door.settimeout(10)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LOG_BUFFER_BYTES)
        _configure(door, 1, struct.pack("=Bxxx", _BIND))
        _configure(door, 2, struct.pack("!IBx", _SNAP_BYTES, _COPY_PACKET))
        _configure(door, 5, struct.pack("!I", 1))  # send each packet at once, not a hundred together
    except BaseException:
        door.close()
        raise
    door.setblocking(False)
    return door


def _configure(door: socket.socket, attribute: int, value: bytes) -> None:
    body = _GROUP_HEADER.pack(socket.AF_UNSPEC, 0, LOG_GROUP) + struct.pack("=HH", 4 + len(value), attribute)
    body += value + b"\0" * (-len(value) % 4)
    size = _NETLINK_HEADER.size + len(body)
    door.send(_NETLINK_HEADER.pack(size, _LOG_CONFIG, _REQUEST_ACK, attribute, 0) + body)
    answer = door.recv(1 << 16)
    _, kind, _, _, _, code = struct.unpack_from("=IHHIIi", answer)
    if kind != _ERROR or code != 0:
        raise OSError(-code or errno.EPROTO, os.strerror(-code or errno.EPROTO))


def _hand_out() -> int:
    """Open the doors and send them to the parent; what fails goes there as text."""
    with socket.socket(fileno=0) as parent:
        try:
            doors = open_doors()
        except OSError as error:
            parent.sendall(f"{error.errno} {error.strerror}".encode())
            return 1
        socket.send_fds(parent, [b"doors"], [door.fileno() for door in doors.all])
    return 0


if __name__ == "__main__":
    sys.exit(_hand_out())
