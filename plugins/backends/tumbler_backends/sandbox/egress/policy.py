"""Compile a network policy into decisions; opens no socket and asks no resolver."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tumbler.contracts.sandbox import NetworkPolicy
from tumbler_backends.sandbox.egress.addresses import Address, never_allowed, not_public, parse_address
from tumbler_backends.sandbox.egress.rules import HostRule, RangeRule, clean_name, parse_host, parse_range

__all__ = ["Decision", "EgressPolicy", "compile_policy"]

_QUESTION: Final = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*"
)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether something may be reached, and which rule says so."""

    allowed: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class EgressPolicy:
    """A compiled policy. Each question it answers is about one step of one connection."""

    mode: str
    hosts: tuple[HostRule, ...] = ()
    ranges: tuple[RangeRule, ...] = ()
    pinned: Mapping[str, Address]
    """The operator's static names: they alone may stand for an address of this machine."""

    def question(self, name: str) -> Decision:
        """Decide whether a name is answered with an address at all."""
        if not _QUESTION.fullmatch(name):
            return _refuse(f"{name[:80]!r} is no host name")
        if self.mode == "public":
            return _allow("the policy is public")
        rule = next((rule for rule in self.hosts if rule.names(name)), None)
        return _allow(f"host rule {rule.text}") if rule is not None else self._no_rule("host", name)

    def name(self, name: str, port: int) -> Decision:
        """Decide whether a connection to a name may be tried; `resolved` then judges its address."""
        asked = self.question(name)
        if not asked.allowed or self.mode == "public":
            return asked
        rule = next((rule for rule in self.hosts if rule.admits(name, port)), None)
        if rule is not None:
            return _allow(f"host rule {rule.text}")
        return _refuse(f"{name} is allowed on other ports only, not on {port}")

    def resolved(self, name: str, port: int, address: Address, *, own: bool) -> Decision:
        """Decide whether an allowed name may stand for this address; `own` tells that this machine has it."""
        asked = self.name(name, port)
        if not asked.allowed or self.pinned.get(name) == address:
            return asked
        if (never := never_allowed(address)) is not None:
            return _refuse(f"{name} stands for {address}: {never}, refused in every mode")
        special = not_public(address) or ("an address of this machine" if own else None)
        if special is None or (special != "loopback" and self._opened(address, port) is not None):
            return asked
        return _refuse(f"{name} stands for {address}: {special}, and no range of the policy opens it")

    def address(self, address: Address, port: int, *, own: bool) -> Decision:
        """Decide whether a bare address may be connected to; `own` tells that this machine has it."""
        if (never := never_allowed(address)) is not None:
            return _refuse(f"{never}, refused in every mode")
        opened = self._opened(address, port)
        if opened is not None:
            return _allow(f"range rule {opened.text}")
        special = not_public(address) or ("an address of this machine" if own else None)
        if special is not None:
            return _refuse(f"{special}, and no range of the policy opens it")
        if self.mode == "public":
            return _allow("the policy is public")
        rule = next((rule for rule in self.ranges if rule.admits(address, port)), None)
        return _allow(f"range rule {rule.text}") if rule is not None else self._no_rule("range", f"{address}:{port}")

    def _opened(self, address: Address, port: int) -> RangeRule | None:
        """Return the rule that opens addresses that are not public: 0.0.0.0/0, say, opens none of them."""
        for rule in self.ranges:
            if rule.admits(address, port) and (rule.network.num_addresses == 1 or not_public(rule.network)):
                return rule
        return None

    def _no_rule(self, kind: str, target: str) -> Decision:
        if self.mode == "none":
            return _refuse("the policy is none")
        return _refuse(f"no {kind} rule allows {target}")


def compile_policy(policy: NetworkPolicy, names: Mapping[str, str] | None = None) -> EgressPolicy:
    """Check and compile a policy; `names` are the operator's static names, such as {"mirror.test": "127.0.0.1"}.

    Hosts and ranges are checked in every mode, and count for `allowlist` only. Raises `ValueError`
    that names the entry and says how it is to be written.
    """
    if policy.mode not in ("none", "allowlist", "public"):
        raise ValueError(f"network mode {policy.mode!r} is none of none, allowlist and public")
    hosts = tuple(parse_host(entry) for entry in policy.hosts)
    ranges = tuple(parse_range(entry) for entry in policy.cidrs)
    listed = policy.mode == "allowlist"
    return EgressPolicy(
        mode=policy.mode,
        hosts=hosts if listed else (),
        ranges=ranges if listed else (),
        pinned=dict(_pin(name, address) for name, address in (names or {}).items()),
    )


def _pin(name: str, text: str) -> tuple[str, Address]:
    try:
        cleaned, address = clean_name(name), parse_address(text)
    except ValueError as error:
        raise ValueError(f"the static name {name!r}: {error}") from error
    if (never := never_allowed(address)) is not None:
        raise ValueError(f"the static name {name!r} stands for {text}: {never}, which no sandbox may reach")
    return cleaned, address


def _allow(reason: str) -> Decision:
    return Decision(allowed=True, reason=reason)


def _refuse(reason: str) -> Decision:
    return Decision(allowed=False, reason=reason)
