"""Refuse, before anything starts, what this backend cannot enforce."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox import Mount, SandboxSpec
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.bubblewrap.filesystem.images import ImageStore
from tumbler_backends.sandbox.bubblewrap.host import Host

__all__ = ["pinned_mounts", "require_enforceable"]

_TAKEN: Final = ("proc", "dev", "run", "sys")
_LEAST_DISK_BYTES: Final = 1 << 16


def require_enforceable(spec: SandboxSpec, host: Host, images: ImageStore, modes: Sequence[str]) -> None:
    """Raise `CapabilityError` that names every demand of `spec` that cannot be met here.

    Args:
        spec: what is asked for.
        host: what there is.
        images: the images that are known.
        modes: the network modes that are offered.
    """
    problems = [
        *_isolation_problems(spec, modes),
        *_resource_problems(spec, host),
        *_image_problems(spec, images),
        *_mount_problems(spec.mounts, host.settings.mountable),
    ]
    if problems:
        raise CapabilityError(f"the bubblewrap backend cannot make this sandbox: {'; '.join(problems)}")


def pinned_mounts(mounts: Sequence[Mount], mountable: Sequence[Path]) -> tuple[Mount, ...]:
    """Return the mounts with the places that their sources really lead to; nothing may follow a link from here on.

    Raises `CapabilityError` where a source leads out of `mountable` by now.
    """
    pinned = tuple(replace(mount, source=str(Path(mount.source).resolve())) for mount in mounts)
    if problems := _mount_problems(pinned, mountable):
        raise CapabilityError(f"the bubblewrap backend cannot make this sandbox: {'; '.join(problems)}")
    return pinned


def _isolation_problems(spec: SandboxSpec, modes: Sequence[str]) -> list[str]:
    problems = []
    if spec.network.mode not in modes:
        offered = ", ".join(repr(mode) for mode in modes)
        problems.append(f"network mode {spec.network.mode!r} is not offered, only {offered} (others need nft and ip)")
    if spec.isolation_min in {"gvisor", "vm"}:
        problems.append(f"isolation_min {spec.isolation_min!r} is stronger than its 'namespace'")
    return problems


def _resource_problems(spec: SandboxSpec, host: Host) -> list[str]:
    asked = spec.resources
    problems = []
    if asked.disk_bytes is not None and asked.disk_bytes < _LEAST_DISK_BYTES:
        problems.append(f"disk_bytes {asked.disk_bytes} are too few, at least {_LEAST_DISK_BYTES} are needed")
    if asked.gpus:
        problems.append("gpus cannot be handed to a sandbox")
    if asked.memory_bytes is not None and "memory" not in host.controllers:
        problems.append("memory_bytes needs a writable memory cgroup")
    if asked.cpus is not None and "cpu" not in host.controllers:
        problems.append("cpus needs a writable cpu cgroup")
    if asked.processes is not None and not ("pids" in host.controllers or host.counts_processes_by_rlimit):
        problems.append("processes needs a writable pids cgroup when the owner is root")
    return problems


def _image_problems(spec: SandboxSpec, images: ImageStore) -> list[str]:
    if spec.image is None:
        return []
    if spec.template is not None:
        return ["a template and an image exclude each other"]
    try:
        images.require(spec.image)
    except CapabilityError as error:
        return [str(error)]
    return []


def _mount_problems(mounts: Sequence[Mount], mountable: Sequence[Path]) -> list[str]:
    problems = []
    allowed = [folder.expanduser().resolve() for folder in mountable]
    for mount in mounts:
        source, parts = Path(mount.source), Path(mount.target).parts
        real = source.resolve()
        if not any(real.is_relative_to(folder) for folder in allowed):
            problems.append(f"mount source {mount.source!r} lies in no folder of the setting `mountable`")
        elif not source.is_absolute() or not real.exists():
            problems.append(f"mount source {mount.source!r} is not an absolute path of something that exists")
        if len(parts) < 2 or parts[0] != "/" or ".." in parts or parts[1] in _TAKEN:
            problems.append(f"mount target {mount.target!r} is not an absolute path outside of /{', /'.join(_TAKEN)}")
    return problems
