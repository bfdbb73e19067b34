"""Write and load the namespace's routes and nftables rules; the gateway decides again on every connection.

The rules make refusals honest: what they do not lead to the gateway is refused at the first packet
and logged. Were they all gone, there would still be no interface that leads out.
"""

import asyncio
import contextlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tumbler.errors import CapabilityError, SandboxUnavailable
from tumbler_backends.sandbox.egress.addresses import FAKE_NETWORK, never_networks, not_public_networks
from tumbler_backends.sandbox.egress.doors import LOG_GROUP
from tumbler_backends.sandbox.egress.network_namespace import NamespaceDescriptors, enter_words
from tumbler_backends.sandbox.egress.policy import EgressPolicy

__all__ = ["Ports", "load_routes_and_rules", "load_rules", "rules_for"]

_TABLE: Final = "inet tumbler_egress"
_ROUTES: Final = """\
ip route replace local default dev lo || exit
ip -6 route replace local default dev lo || test ! -s /proc/net/if_inet6 || exit
exec nft -f -
"""
"""All addresses become the namespace's own, so that packets to them reach the rules at all."""
_LOAD_S: Final = 30.0
_PROGRAMS: Final = (("ip", "iproute2"), ("nft", "nftables"), ("nsenter", "util-linux"))


@dataclass(frozen=True)
class Ports:
    """Where the gateway listens inside."""

    ipv4: int
    ipv6: int | None = None
    """None where the kernel has no IPv6."""


def rules_for(policy: EgressPolicy, ports: Ports) -> str:
    """Return the rules as `nft -f` reads them; loading them replaces the earlier ones in one step."""
    return f"""\
table {_TABLE} {{}}
delete table {_TABLE}
table {_TABLE} {{
  chain gateway {{
    meta nfproto ipv4 meta l4proto tcp redirect to :{ports.ipv4}
    {f"meta nfproto ipv6 meta l4proto tcp redirect to :{ports.ipv6}" if ports.ipv6 else ""}
  }}
  chain aim {{
    type nat hook output priority -100;
    ip daddr 127.0.0.0/8 accept
    ip6 daddr ::1 accept
    tcp dport 53 goto gateway
    {_lines(_admitted(policy))}
  }}
  chain guard {{
    type filter hook output priority 0; policy drop;
    udp dport 53 limit rate over 200/second burst 1000 packets drop
    ct state established,related accept
    ct status dnat limit rate over 200/second burst 1000 packets drop
    ip daddr 127.0.0.0/8 accept
    ip6 daddr ::1 accept
    ct status dnat accept
    udp dport 53 accept
    limit rate 100/second burst 1000 packets log group {LOG_GROUP}
    meta l4proto tcp reject with tcp reset
    reject
  }}
}}
"""


def _admitted(policy: EgressPolicy) -> Iterable[str]:
    """Return a rule for each kind of packet that the gateway may let pass."""
    if policy.mode == "public":
        yield f"ip daddr {FAKE_NETWORK} goto gateway"
        for network in (*never_networks(), *not_public_networks()):
            yield f"{_family(network.version)} daddr {network} accept"
        yield "goto gateway"
        return
    for port in sorted({rule.port or 0 for rule in policy.hosts}):
        yield f"ip daddr {FAKE_NETWORK} {_port(port)}goto gateway"
    for network in never_networks():
        yield f"{_family(network.version)} daddr {network} accept"
    for rule in policy.ranges:
        yield f"{_family(rule.network.version)} daddr {rule.network} {_port(rule.port)}goto gateway"


async def load_routes_and_rules(namespaces: NamespaceDescriptors, rules: str) -> None:
    """Lead all addresses to the namespace itself, and load rules; raises like `load_rules`."""
    await _run(namespaces, ["sh", "-c", _ROUTES], rules)


async def load_rules(namespaces: NamespaceDescriptors, rules: str) -> None:
    """Load rules into the namespace.

    Raises `CapabilityError` where a program is missing or the kernel knows no such rules, and
    `SandboxUnavailable` where loading takes too long.
    """
    await _run(namespaces, ["nft", "-f", "-"], rules)


async def _run(namespaces: NamespaceDescriptors, command: Sequence[str], text: str) -> None:
    for program, package in _PROGRAMS:
        if shutil.which(program) is None:
            raise CapabilityError(f"network allow-lists need the program {program!r}: install the package {package}")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *enter_words(namespaces), *command, stdin=pipe, stdout=asyncio.subprocess.DEVNULL, stderr=pipe
    )
    try:
        async with asyncio.timeout(_LOAD_S):
            _, said = await process.communicate(text.encode())
    except TimeoutError as error:
        raise SandboxUnavailable(f"{command[0]} did not end within {_LOAD_S} s in the sandbox's network") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        raise CapabilityError(
            f"the sandbox's network rules could not be loaded: {said.decode(errors='replace').strip()[:2000]}; "
            "the kernel needs nf_tables with NAT and nfnetlink_log"
        )


def _family(version: int) -> str:
    return "ip" if version == 4 else "ip6"


def _port(port: int | None) -> str:
    return f"tcp dport {port} " if port else ""


def _lines(rules: Iterable[str]) -> str:
    return "\n    ".join(rules)
