"""What kind of address an address is; knows no policy.

The tables follow IANA's special-purpose registries and the clouds' manuals. They are kept here,
beside `ipaddress`, because that module's answers change between Python releases.
"""

import ipaddress
import socket
from typing import Final, TypeAlias

__all__ = [
    "FAKE_NETWORK",
    "Address",
    "Network",
    "is_own_address",
    "never_allowed",
    "never_networks",
    "not_public",
    "not_public_networks",
    "parse_address",
]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

FAKE_NETWORK: Final = ipaddress.IPv4Network("198.18.0.0/15")
"""Where the addresses that stand for names come from: RFC 2544 keeps it free of real hosts."""

_METADATA: Final = "a cloud's metadata service"
_EMBEDDING: Final = "an IPv6 address that stands for an IPv4 address"
_NEVER: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ipaddress.ip_network(text), reason)
    for text, reason in (
        ("169.254.0.0/16", f"link-local, where {_METADATA} lies"),
        ("fe80::/10", f"link-local, where {_METADATA} lies"),
        ("fd00:ec2::/32", _METADATA),
        ("fd20:ce::/32", _METADATA),
        ("100.100.100.200/32", _METADATA),
        ("168.63.129.16/32", _METADATA),
        ("192.0.0.192/32", _METADATA),
        ("0.0.0.0/8", "no address of a host"),
        ("::/128", "no address of a host"),
        ("224.0.0.0/4", "multicast"),
        ("ff00::/8", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::ffff:0:0:0/96", _EMBEDDING),
        ("64:ff9b::/96", _EMBEDDING),
        ("64:ff9b:1::/48", _EMBEDDING),
        ("2001::/32", _EMBEDDING),
        ("2002::/16", _EMBEDDING),
    )
)
_NOT_PUBLIC: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ipaddress.ip_network(text), reason)
    for text, reason in (
        ("127.0.0.0/8", "loopback"),
        ("::1/128", "loopback"),
        ("10.0.0.0/8", "private"),
        ("172.16.0.0/12", "private"),
        ("192.168.0.0/16", "private"),
        ("fc00::/7", "private"),
        ("fec0::/10", "private"),
        ("100.64.0.0/10", "shared by carriers"),
        (str(FAKE_NETWORK), "kept for the gateway's names"),
        ("::/96", _EMBEDDING),
        ("192.0.0.0/24", "kept for protocols"),
        ("192.0.2.0/24", "kept for documentation"),
        ("198.51.100.0/24", "kept for documentation"),
        ("203.0.113.0/24", "kept for documentation"),
        ("2001:db8::/32", "kept for documentation"),
        ("3fff::/20", "kept for documentation"),
        ("2001::/23", "kept for protocols"),
        ("100::/64", "a black hole"),
        ("5f00::/16", "kept for segment routing"),
    )
)


def parse_address(text: str) -> Address:
    """Return the address; one that is IPv4 written as IPv6 comes back as IPv4. Raises `ValueError`."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def never_allowed(target: Address | Network) -> str | None:
    """Say what makes an address, or all of a range, one that no policy can allow; None if nothing does."""
    return _described(target, _NEVER)


def not_public(target: Address | Network) -> str | None:
    """Say what makes an address, or all of a range, no public one; None if it is public."""
    known = _described(target, _NOT_PUBLIC) or never_allowed(target)
    if known is None and not isinstance(target, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return None if target.is_global else "not public"
    return known


def never_networks() -> tuple[Network, ...]:
    """Return the ranges that no policy can allow."""
    return tuple(network for network, _ in _NEVER)


def not_public_networks() -> tuple[Network, ...]:
    """Return the other ranges that are not public."""
    return tuple(network for network, _ in _NOT_PUBLIC)


def is_own_address(address: Address) -> bool:
    """Tell whether this machine itself has the address: only then can a socket be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _described(target: Address | Network, table: tuple[tuple[Network, str], ...]) -> str | None:
    network = ipaddress.ip_network(target)
    for known, reason in table:
        if network.version == known.version and known.supernet_of(network):  # type: ignore[arg-type]  # same version
            return reason
    return None
