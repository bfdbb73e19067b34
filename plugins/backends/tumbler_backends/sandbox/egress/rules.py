"""Read the entries of an allow-list: names with wildcards, ranges, ports; decides nothing about modes."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from tumbler_backends.sandbox.egress.addresses import FAKE_NETWORK, Address, Network, never_allowed, not_public

__all__ = ["HostRule", "RangeRule", "clean_name", "parse_host", "parse_range"]

_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_MAX_NAME: Final = 253
_RANGE: Final = re.compile(
    r"(?:\[(?P<bracketed>[0-9a-fA-F:.]+)\]|(?P<plain>[0-9.]+))(?P<prefix>/\d+)?(?::(?P<port>\d+))?"
    r"|(?P<bare>[0-9a-fA-F:.]+)(?P<bare_prefix>/\d+)?"
)


@dataclass(frozen=True, kw_only=True)
class HostRule:
    """A name, or all names below one, on one port or on all."""

    text: str
    """The entry as it was written."""
    host: str
    wildcard: bool
    """Whether it stands for the names below `host`, and not for `host` itself."""
    port: int | None

    def names(self, name: str) -> bool:
        """Tell whether the rule is about this name."""
        return name.endswith(f".{self.host}") if self.wildcard else name == self.host

    def admits(self, name: str, port: int) -> bool:
        """Tell whether the rule allows this name on this port."""
        return self.port in (None, port) and self.names(name)


@dataclass(frozen=True, kw_only=True)
class RangeRule:
    """A range of addresses, on one port or on all."""

    text: str
    """The entry as it was written."""
    network: Network
    port: int | None

    def admits(self, address: Address, port: int) -> bool:
        """Tell whether the rule allows this address on this port."""
        return self.port in (None, port) and address in self.network


def clean_name(name: str) -> str:
    """Return a host name in lower case, in its ASCII form and without the final dot; raise `ValueError`."""
    try:
        cleaned = (name if name.isascii() else name.encode("idna").decode()).lower().removesuffix(".")
    except UnicodeError as error:
        raise ValueError(f"{name!r} is no host name: {error}") from error
    labels = cleaned.split(".")
    if len(cleaned) > _MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(
            f"{name!r} is no host name: labels of 1 to 63 letters, digits, '-' and '_', with dots between them, "
            f"at most {_MAX_NAME} in all"
        )
    if labels[-1].isdigit():
        raise ValueError(f"{name!r} looks like an address: addresses belong in `cidrs`")
    return cleaned


def parse_host(entry: str) -> HostRule:
    """Read `name`, `*.name`, or either with `:port` behind it; raise `ValueError`."""
    name, colon, port = entry.partition(":")
    try:
        if "://" in entry:
            raise ValueError("leave the scheme and what is behind the host out: a rule holds for all that goes there")
        wildcard = name.startswith("*.")
        host = clean_name(name.removeprefix("*."))
        return HostRule(text=entry, host=host, wildcard=wildcard, port=_parse_port(port) if colon else None)
    except ValueError as error:
        raise ValueError(f"host rule {entry!r}: {error}; write pypi.org, *.pythonhosted.org or pypi.org:443") from error


def parse_range(entry: str) -> RangeRule:
    """Read an address range with or without `:port` behind it; raise `ValueError`."""
    try:
        network, port = _split_range(entry)
        _refuse_useless(network)
    except ValueError as error:
        raise ValueError(
            f"range rule {entry!r}: {error}; write 203.0.113.0/24, 203.0.113.7/32:443 or [2001:db8::]/32:443"
        ) from error
    return RangeRule(text=entry, network=network, port=port)


def _split_range(entry: str) -> tuple[Network, int | None]:
    match = _RANGE.fullmatch(entry)
    if match is None:
        raise ValueError("it is no address range")
    address = match["bracketed"] or match["plain"] or match["bare"]
    network = ipaddress.ip_network(address + (match["prefix"] or match["bare_prefix"] or ""))
    if match["bracketed"] and network.version == 4:
        raise ValueError("only IPv6 addresses stand in brackets")
    return network, None if match["port"] is None else _parse_port(match["port"])


def _refuse_useless(network: Network) -> None:
    """Raise for ranges none of whose addresses a sandbox may ever reach."""
    if (never := never_allowed(network)) is not None:
        raise ValueError(f"it is {never}, refused in every mode")
    if not_public(network) == "loopback":
        raise ValueError("it is loopback, which inside a sandbox is the sandbox itself")
    if isinstance(network, ipaddress.IPv4Network) and network.subnet_of(FAKE_NETWORK):
        raise ValueError(f"{FAKE_NETWORK} is kept for the gateway's names")


def _parse_port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is no port: a number from 1 to 65535")
    return int(text)
