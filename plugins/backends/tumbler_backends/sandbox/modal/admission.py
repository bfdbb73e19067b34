"""Refuse, before anything starts, what Modal cannot enforce."""

import re
from typing import Final

from tumbler.contracts.sandbox import NetworkPolicy, SandboxSpec
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.modal.settings import ModalSettings
from tumbler_backends.sandbox.modal.tags import RESERVED

__all__ = ["ENFORCED", "network_modes", "require_enforceable", "require_policy"]

ENFORCED: Final = frozenset({"cpus", "memory_bytes"})
_TIERS: Final = ("process", "namespace", "gvisor", "vm")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,63}")
_PORT: Final = re.compile(r"(\]|^[^:]+):\d+$")


def network_modes(settings: ModalSettings) -> tuple[str, ...]:
    """Return the network modes that are offered."""
    return ("none", "allowlist", "public") if settings.unlogged_allowlists else ("none", "public")


def require_enforceable(spec: SandboxSpec, settings: ModalSettings) -> None:
    """Raise `CapabilityError` that names every demand of `spec` that cannot be met."""
    problems = [
        *_policy_problems(spec.network, settings),
        *_resource_problems(spec),
        *_place_problems(spec),
        *_name_problems(spec),
    ]
    if _TIERS.index(spec.isolation_min) > _TIERS.index(settings.tier):
        problems.append(f"isolation_min {spec.isolation_min!r} is stronger than its {settings.tier!r}")
    if spec.ttl > settings.max_lifetime:
        problems.append(f"ttl {spec.ttl:g} is longer than the setting max_lifetime, {settings.max_lifetime:g} s")
    if problems:
        raise CapabilityError(f"the modal backend cannot make this sandbox: {'; '.join(problems)}")


def require_policy(policy: NetworkPolicy, settings: ModalSettings) -> None:
    """Raise `CapabilityError` for a network policy that cannot be enforced."""
    if problems := _policy_problems(policy, settings):
        raise CapabilityError(f"the modal backend cannot enforce this network policy: {'; '.join(problems)}")


def _policy_problems(policy: NetworkPolicy, settings: ModalSettings) -> list[str]:
    if policy.mode not in network_modes(settings):
        return [
            f"network mode {policy.mode!r} needs a log of what is tried, which Modal does not keep; "
            "set unlogged_allowlists to do without"
        ]
    return [
        f"{rule!r} names a port, Modal's rules cannot" for rule in (*policy.hosts, *policy.cidrs) if _PORT.search(rule)
    ]


def _resource_problems(spec: SandboxSpec) -> list[str]:
    asked = {name: getattr(spec.resources, name) for name in spec.resources.__dataclass_fields__}
    return [
        f"{name} cannot be limited on Modal"
        for name, value in asked.items()
        if value is not None and name not in ENFORCED
    ]


def _place_problems(spec: SandboxSpec) -> list[str]:
    problems = []
    if spec.mounts:
        problems.append(
            "mounts of this machine's folders are not possible on Modal: write the files, or take an image that holds "
            "them (for the packages of an agent that is a program: packages.in_image = true)"
        )
    if spec.image is not None and spec.image.startswith(("/", ".")):
        problems.append(f"image {spec.image!r} is a path; Modal takes image names of a registry")
    if spec.image is not None and spec.template is not None:
        problems.append("image and template exclude each other")
    if not spec.workdir.startswith("/"):
        problems.append(f"workdir {spec.workdir!r} is not absolute")
    return problems


def _name_problems(spec: SandboxSpec) -> list[str]:
    problems = []
    if spec.name is not None and not _NAME.fullmatch(spec.name):
        problems.append(f"name {spec.name!r} is not of 1 to 63 letters, digits, dots, dashes and underscores")
    problems += [f"label {name!r} begins with {RESERVED!r}" for name in spec.labels if name.startswith(RESERVED)]
    return problems
