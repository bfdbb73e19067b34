"""Refuse, before anything starts, what this backend cannot enforce."""

from pathlib import Path

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.bubblewrap.host import Host

__all__ = ["require_enforceable"]


def require_enforceable(spec: SandboxSpec, host: Host) -> None:
    """Raise `CapabilityError` that names every demand of `spec` that cannot be met here."""
    problems = [*_isolation_problems(spec), *_resource_problems(spec, host), *_image_problems(spec)]
    if problems:
        raise CapabilityError(f"the bubblewrap backend cannot make this sandbox: {'; '.join(problems)}")


def _isolation_problems(spec: SandboxSpec) -> list[str]:
    problems = []
    if spec.network.mode != "none":
        problems.append(f"network mode {spec.network.mode!r} is not offered, only 'none'")
    if spec.isolation_min in {"gvisor", "vm"}:
        problems.append(f"isolation_min {spec.isolation_min!r} is stronger than its 'namespace'")
    return problems


def _resource_problems(spec: SandboxSpec, host: Host) -> list[str]:
    asked = spec.resources
    problems = []
    if asked.disk_bytes is not None:
        problems.append("disk_bytes cannot be enforced without file-system quotas")
    if asked.memory_bytes is not None and "memory" not in host.controllers:
        problems.append("memory_bytes needs a writable memory cgroup")
    if asked.cpus is not None and "cpu" not in host.controllers:
        problems.append("cpus needs a writable cpu cgroup")
    if asked.processes is not None and not ("pids" in host.controllers or host.counts_processes_by_rlimit):
        problems.append("processes needs a writable pids cgroup when the owner is root")
    return problems


def _image_problems(spec: SandboxSpec) -> list[str]:
    if spec.image is None:
        return []
    shell = Path(spec.image, "bin", "sh")
    # The link may point into the image, where the host cannot follow it.
    if shell.exists() or shell.is_symlink():
        return []
    return [f"image {spec.image!r} is not a folder with bin/sh (image names are for other backends)"]
