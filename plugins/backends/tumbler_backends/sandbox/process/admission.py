"""Refuse, before anything starts, whatever would need isolation."""

import os
import posixpath
import pwd
from collections.abc import Iterator
from dataclasses import fields

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.errors import CapabilityError

__all__ = ["require_possible"]


def require_possible(spec: SandboxSpec) -> None:
    """Raise `CapabilityError` that names every demand of `spec` that plain processes cannot meet."""
    problems = list(_problems(spec))
    if problems:
        raise CapabilityError(f"the process backend cannot make this sandbox: {'; '.join(problems)}")


def _problems(spec: SandboxSpec) -> Iterator[str]:
    if spec.isolation_min != "process":
        yield f"isolation_min {spec.isolation_min!r} is stronger than none: only isolation_min='process' is met"
    if spec.network.mode != "public":
        yield f"network mode {spec.network.mode!r} cannot be enforced: only NetworkPolicy(mode='public') is met"
    for field in fields(spec.resources):
        if getattr(spec.resources, field.name) is not None:
            yield f"{field.name} cannot be enforced"
    if spec.image is not None:
        yield f"image {spec.image!r}: commands see this machine's own root file system"
    if spec.mounts:
        yield "mounts: commands see this machine's own folders"
    if spec.user is not None and not _is_own(spec.user):
        yield f"user {spec.user!r}: commands run as this process's user"
    if not posixpath.isabs(spec.workdir):
        yield f"workdir {spec.workdir!r} is not absolute"


def _is_own(user: str) -> bool:
    if user == str(os.getuid()):
        return True
    try:
        return pwd.getpwnam(user).pw_uid == os.getuid()
    except KeyError:
        return False
