"""Addresses that stand for names, so that rules about names hold for connections; knows no policy."""

import hashlib
import ipaddress
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from tumbler_backends.sandbox.egress.addresses import FAKE_NETWORK, Address

__all__ = ["NAME_SERVER", "FakeAddresses"]

NAME_SERVER: Final = str(FAKE_NETWORK[1])
"""A good `nameserver` for a sandbox's resolv.conf; every other one is answered just as well."""

_FIRST: Final = int(FAKE_NETWORK[2])
_COUNT: Final = FAKE_NETWORK.num_addresses - 3


class FakeAddresses:
    """A two-way table of names and addresses; the name least recently used makes room.

    A name's address follows from the name, so it stays the same for a later gateway, unless two
    names meet.
    """

    def __init__(self, limit: int = 10_000) -> None:
        """Hold at most `limit` names."""
        self._limit = limit
        self._addresses: OrderedDict[str, ipaddress.IPv4Address] = OrderedDict()
        self._names: dict[ipaddress.IPv4Address, str] = {}

    def address_of(self, name: str) -> ipaddress.IPv4Address:
        """Return the address that stands for `name`, from now on if none did before."""
        known = self._addresses.get(name)
        if known is not None:
            self._addresses.move_to_end(name)
            return known
        if len(self._addresses) >= self._limit:
            del self._names[self._addresses.popitem(last=False)[1]]
        address = next(address for address in _candidates(name) if address not in self._names)
        self._addresses[name], self._names[address] = address, name
        return address

    def name_of(self, address: Address) -> str | None:
        """Return the name that an address stands for, if it stands for one."""
        return self._names.get(address) if isinstance(address, ipaddress.IPv4Address) else None


def _candidates(name: str) -> Iterator[ipaddress.IPv4Address]:
    """Return places to try. Each is hashed anew: names made to meet in one place part in the next."""
    for turn in itertools.count():
        digest = hashlib.blake2b(f"{turn} {name}".encode(), digest_size=8).digest()
        yield ipaddress.IPv4Address(_FIRST + int.from_bytes(digest) % _COUNT)
