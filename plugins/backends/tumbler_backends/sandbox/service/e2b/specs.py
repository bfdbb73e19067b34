"""What a client asks for, as a spec; names what cannot be had."""

import hashlib
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from tumbler.contracts.sandbox import NetworkPolicy, SandboxSpec
from tumbler_backends.sandbox.service.e2b.faults import RefusedError
from tumbler_backends.sandbox.service.e2b.messages import mapping, number, text, texts

__all__ = ["HIDDEN", "TEMPLATE_LABEL", "WORKDIR_LABEL", "E2bOptions", "lifetime", "policy_of", "spec_of"]

HIDDEN: Final = "tumbler."
"""Labels that begin so are the service's own: no client sees them."""
TEMPLATE_LABEL: Final = "tumbler.template"
"""The template that a sandbox was made of, in the client's words."""
WORKDIR_LABEL: Final = "tumbler-workdir"
"""Metadata by which a client names the working directory, which E2B's protocol has no field for."""

_HOME: Final = "/home/user"
_EVERYWHERE: Final = frozenset({"0.0.0.0/0", "::/0"})
_SECONDS: Final = 300
_REFUSED: Final = {
    "mcp": "MCP gateways",
    "iam": "workload identities",
    "volumeMounts": "volumes",
    "autoPause": "pausing at the time-out",
}
_REFUSED_OF_NETWORK: Final = {
    "rules": "rules that change requests",
    "egressProxy": "egress proxies",
}


@dataclass(frozen=True, kw_only=True)
class E2bOptions:
    """How clients' words are read."""

    templates: Mapping[str, str | None] = field(default_factory=lambda: {"base": None})
    """Template name → the backend's image; None is the backend's default. A snapshot's id needs no entry."""
    default_network: Literal["none", "public"] = "none"
    """What a sandbox may reach whose client does not say; E2B's own cloud has `public`."""
    longest: float = 86_400.0
    """The longest life in seconds that a client may ask for at a time."""


def spec_of(
    body: Mapping[str, object], options: E2bOptions, *, snapshots: frozenset[str], idempotency_key: str | None
) -> SandboxSpec:
    """Return the spec of a create request; raise `RefusedError` for what cannot be had.

    Args:
        body: the request.
        options: what templates mean, and so on.
        snapshots: ids that `templateID` may name beside the options' templates.
        idempotency_key: the header of that name.
    """
    _refuse(body, _REFUSED)
    template = text(body, "templateID") or "base"
    snapshot = template if template not in options.templates else None
    if snapshot is not None and snapshot not in snapshots:
        known = ", ".join(sorted(options.templates)[:10])
        raise RefusedError(404, f"template '{template}' not found; there are: {known}")
    metadata = _strings(body, "metadata")
    if own := [name for name in metadata if name.startswith(HIDDEN)]:
        raise RefusedError(400, f"metadata {own[0]!r}: names that begin with {HIDDEN!r} are the service's own")
    workdir = metadata.get(WORKDIR_LABEL)
    home = {} if workdir else {"HOME": _HOME, "USER": "user", "LOGNAME": "user"}
    return SandboxSpec(
        image=options.templates.get(template),
        template=snapshot,
        workdir=workdir if workdir and posixpath.isabs(workdir) else _HOME,
        env={**home, **_strings(body, "envVars")},
        network=policy_of(body, mapping(body, "network"), options),
        ttl=lifetime(body, options),
        labels={**metadata, TEMPLATE_LABEL: template},
        idempotency_key=hashlib.sha256(idempotency_key.encode()).hexdigest() if idempotency_key else None,
    )


def lifetime(body: Mapping[str, object], options: E2bOptions) -> float:
    """Return the seconds that a request's `timeout` names."""
    seconds = number(body, "timeout") if "timeout" in body else _SECONDS
    if seconds < 0:
        raise RefusedError(400, "timeout must not be negative")
    if seconds > options.longest:
        raise RefusedError(400, f"timeout {seconds} s is longer than the {options.longest:g} s that are allowed")
    return float(seconds)


def policy_of(body: Mapping[str, object], network: Mapping[str, object], options: E2bOptions) -> NetworkPolicy:
    """Return what a request lets the sandbox reach.

    Args:
        body: where `allow_internet_access` may lie.
        network: where `allowOut` and `denyOut` may lie; what is allowed wins, as with E2B.
        options: what holds where neither says anything.
    """
    _refuse(network, _REFUSED_OF_NETWORK)
    allowed, denied = texts(network, "allowOut"), texts(network, "denyOut")
    if some := [each for each in denied if each not in _EVERYWHERE]:
        raise RefusedError(400, f"denyOut {some[0]!r} is not offered: deny '0.0.0.0/0' and allow what is wanted")
    said = body.get("allow_internet_access")
    closed = bool(denied) or said is False
    if closed and allowed and not _EVERYWHERE.intersection(allowed):
        return NetworkPolicy(
            mode="allowlist",
            hosts=tuple(each for each in allowed if not _is_address(each)),
            cidrs=tuple(_range(each) for each in allowed if _is_address(each)),
        )
    if closed and not allowed:
        return NetworkPolicy()
    if said is None and not allowed:
        return NetworkPolicy(mode=options.default_network)
    return NetworkPolicy(mode="public")


def _is_address(entry: str) -> bool:
    return ":" in entry or entry.replace(".", "").replace("/", "").isdecimal()


def _range(entry: str) -> str:
    if "/" in entry:
        return entry
    return f"{entry}/128" if ":" in entry else f"{entry}/32"


def _strings(body: Mapping[str, object], name: str) -> dict[str, str]:
    values = mapping(body, name)
    if not all(isinstance(value, str) for value in values.values()):
        raise RefusedError(400, f"{name} must hold strings")
    return {key: str(value) for key, value in values.items()}


def _refuse(body: Mapping[str, object], unknown: Mapping[str, str]) -> None:
    for name, what in unknown.items():
        if body.get(name):
            raise RefusedError(400, f"{name}: {what} are not offered here")
