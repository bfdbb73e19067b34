"""Refuse, before anything starts, what E2B cannot enforce; and how a network policy reads there."""

import re
from dataclasses import dataclass, fields

from tumbler.contracts.sandbox import NetworkPolicy, Resources, SandboxSpec
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.e2b.settings import E2bSettings

__all__ = ["EgressRules", "egress_rules", "require_enforceable", "require_mode"]

_TIERS = ("process", "namespace", "gvisor", "vm")
_EVERYWHERE = "0.0.0.0/0"
_LONGEST_NAME = 255
_WITH_PORT = re.compile(r"(\[[^]]+\](/\d+)?|[^:]+):\d+")


@dataclass(frozen=True, kw_only=True)
class EgressRules:
    """A network policy in E2B's words."""

    internet: bool = False
    """Whether everything is reachable, where `allowed` is empty."""
    allowed: tuple[str, ...] = ()
    """What is reachable, all else being denied."""

    @property
    def denied(self) -> tuple[str, ...]:
        """Return what goes with `allowed`."""
        return (_EVERYWHERE,) if self.allowed else ()


def require_enforceable(spec: SandboxSpec, settings: E2bSettings) -> None:
    """Raise `CapabilityError` that names every demand of `spec` that cannot be met."""
    problems = []
    if _TIERS.index(spec.isolation_min) > _TIERS.index(settings.tier):
        problems.append(f"isolation_min {spec.isolation_min!r} is stronger than its {settings.tier!r}")
    for field in fields(Resources):
        if getattr(spec.resources, field.name) is not None:
            problems.append(f"{field.name} is the template's: build a template with that limit, and name it as image")
    if spec.mounts:
        problems.append(
            "mounts of this machine do not exist there: use files, write or write_stream, or a template that holds "
            "them (for the packages of an agent that is a program: packages.in_image = true)"
        )
    if not spec.workdir.startswith("/"):
        problems.append(f"workdir {spec.workdir!r} is not absolute")
    if spec.image is not None and spec.template is not None:
        problems.append("image and template exclude each other")
    problems += [f"the label {name[:20]!r} is too long" for name in spec.labels if len(name) > _LONGEST_NAME]
    if problems:
        raise CapabilityError(f"the e2b backend cannot make this sandbox: {'; '.join(problems)}")
    require_mode(spec.network, settings)


def require_mode(policy: NetworkPolicy, settings: E2bSettings) -> None:
    """Raise `CapabilityError` for a network policy that is not offered."""
    if policy.mode not in settings.network_modes:
        offered = ", ".join(repr(mode) for mode in settings.network_modes)
        raise CapabilityError(f"the e2b backend offers no network mode {policy.mode!r}, only {offered}")
    for entry in (*policy.hosts, *policy.cidrs):
        if _WITH_PORT.fullmatch(entry):
            raise CapabilityError(f"the rule {entry!r} is for one port, and E2B's rules are for all ports of a host")


def egress_rules(policy: NetworkPolicy) -> EgressRules:
    """Return a policy in E2B's words."""
    allowed = (*policy.hosts, *policy.cidrs) if policy.mode == "allowlist" else ()
    return EgressRules(internet=policy.mode == "public", allowed=allowed)
