"""Refuse, before anything starts, what this backend cannot enforce."""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox import IsolationTier, SandboxSpec
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.docker.engine import EngineFacts
from tumbler_backends.sandbox.docker.hardening import CONTROL_FOLDER, writable_folders
from tumbler_backends.sandbox.docker.network import require_policy
from tumbler_backends.sandbox.docker.settings import DockerSettings

__all__ = ["enforced_limits", "require_enforceable"]

_TIERS: Final[tuple[IsolationTier, ...]] = ("process", "namespace", "gvisor", "vm")


def enforced_limits(facts: EngineFacts, settings: DockerSettings) -> frozenset[str]:
    """Return the fields of `Resources` that are enforced."""
    limits = facts.limits | ({"gpus"} if facts.gpus else set())
    return limits if settings.root_filesystem == "read-only" else limits - {"disk_bytes"}


def require_enforceable(
    spec: SandboxSpec,
    *,
    tier: IsolationTier,
    limits: frozenset[str],
    modes: tuple[str, ...],
    hosts: Mapping[str, str],
    socket: str,
) -> None:
    """Raise `CapabilityError` that names every demand of `spec` that cannot be met here.

    Args:
        spec: what is asked for.
        tier: what containers are isolated by.
        limits: the fields of `Resources` that are enforced.
        modes: the network modes that are offered.
        hosts: the static names of the egress gateway.
        socket: the path of the engine's socket, which no sandbox may see.
    """
    writable_folders(spec)
    require_policy(spec.network, modes, hosts)
    problems = [*_limit_problems(spec, limits), *_mount_problems(spec, socket)]
    if _TIERS.index(spec.isolation_min) > _TIERS.index(tier):
        problems.append(
            f"isolation_min {spec.isolation_min!r} is stronger than its {tier!r}"
            + ("; install gVisor's runsc and register it with the engine" if spec.isolation_min == "gvisor" else "")
        )
    if spec.image is not None and spec.template is not None:
        problems.append("a spec names an image or a template, not both")
    if problems:
        raise CapabilityError(f"the docker backend cannot make this sandbox: {'; '.join(problems)}")


def _limit_problems(spec: SandboxSpec, limits: frozenset[str]) -> list[str]:
    asked = [field.name for field in fields(spec.resources) if getattr(spec.resources, field.name) is not None]
    return [f"{name} cannot be enforced by this engine and these settings" for name in asked if name not in limits]


def _mount_problems(spec: SandboxSpec, socket: str) -> list[str]:
    problems = []
    for mount in spec.mounts:
        if not (mount.source.startswith("/") and mount.target.startswith("/")):
            problems.append(f"the mount {mount.source!r} to {mount.target!r} needs absolute paths")
        elif socket and Path(os.path.realpath(socket)).is_relative_to(os.path.realpath(mount.source)):
            problems.append(f"the mount {mount.source!r} would show the engine's socket")
        elif mount.target in {"/", CONTROL_FOLDER}:
            problems.append(f"the mount target {mount.target!r} is the sandbox's own")
    return problems
