"""Read the packets that the kernel's rules refused and logged; decides nothing."""

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from tumbler_backends.sandbox.egress.addresses import Address

__all__ = ["RefusedPacket", "read_packets"]

_NETLINK_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_GROUP_HEADER_BYTES: Final = 4
_PACKET: Final = 0x0400
_PAYLOAD: Final = 9
_TYPE_BITS: Final = 0x3FFF
_TCP: Final = 6
_UDP: Final = 17
_IPV6_HEADER_BYTES: Final = 40
_FRAGMENT_OFFSET: Final = 0x1FFF


@dataclass(frozen=True, kw_only=True)
class RefusedPacket:
    """Where a packet was aimed at."""

    protocol: Literal["tcp", "udp", "other"]
    number: int
    """The protocol's number in the IP header."""
    address: Address
    port: int
    """0 where the protocol has none, or where the packet does not tell."""


def read_packets(message: bytes) -> Iterator[RefusedPacket]:
    """Return the packets in a datagram of nfnetlink_log; what cannot be read is left out."""
    place = 0
    while place + _NETLINK_HEADER.size <= len(message):
        size, kind, *_ = _NETLINK_HEADER.unpack_from(message, place)
        if size < _NETLINK_HEADER.size:
            return
        if kind == _PACKET:
            payload = _payload(message[place + _NETLINK_HEADER.size + _GROUP_HEADER_BYTES : place + size])
            packet = _read_packet(payload)
            if packet is not None:
                yield packet
        place += _padded(size)


def _payload(attributes: bytes) -> bytes:
    place = 0
    while place + _ATTRIBUTE.size <= len(attributes):
        size, kind = _ATTRIBUTE.unpack_from(attributes, place)
        if size < _ATTRIBUTE.size:
            break
        if kind & _TYPE_BITS == _PAYLOAD:
            return attributes[place + _ATTRIBUTE.size : place + size]
        place += _padded(size)
    return b""


def _read_packet(packet: bytes) -> RefusedPacket | None:
    """Read the headers of an IP packet. IPv6 extension headers are not followed: then there is no port."""
    if not packet:
        return None
    try:
        if packet[0] >> 4 == 4:
            first = struct.unpack_from("!H", packet, 6)[0] & _FRAGMENT_OFFSET == 0
            header, number = (packet[0] & 0xF) * 4 if first else len(packet), packet[9]
            address: Address = ipaddress.IPv4Address(packet[16:20])
        else:
            header, number = _IPV6_HEADER_BYTES, packet[6]
            address = ipaddress.IPv6Address(packet[24:40])
    except (IndexError, struct.error, ValueError):
        return None
    has_port = number in (_TCP, _UDP) and len(packet) >= header + 4
    port = int(struct.unpack_from("!H", packet, header + 2)[0]) if has_port else 0
    protocol: Literal["tcp", "udp", "other"] = "tcp" if number == _TCP else "udp" if number == _UDP else "other"
    return RefusedPacket(protocol=protocol, number=number, address=address, port=port)


def _padded(size: int) -> int:
    return (size + 3) & ~3
