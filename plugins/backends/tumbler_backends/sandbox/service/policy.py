"""What a tenant's spec may ask for: the quota's ceilings, and no paths of the server's host that are not allowed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox import Resources, SandboxCapabilities, SandboxSpec
from tumbler.contracts.sandbox_control import SandboxInfo, Template
from tumbler.errors import PolicyDenied, QuotaExceeded
from tumbler_backends.sandbox.service.settings import DEFAULT_TENANT
from tumbler_backends.sandbox.service.tenants import Tenant

__all__ = ["OWN_LABELS", "TENANT_LABEL", "SpecPolicy", "own_name", "public_info", "public_spec", "public_template"]

OWN_LABELS: Final = "tumbler."
"""Labels that begin so are the service's."""

TENANT_LABEL: Final = "tumbler.tenant"


class SpecPolicy:
    """Turns what a client asked for into what the backend is told."""

    def __init__(self, host_paths: Sequence[Path], capabilities: SandboxCapabilities) -> None:
        """Allow images and mounts below `host_paths` only."""
        self._host_paths = [path.resolve() for path in host_paths]
        self._enforces = capabilities.enforces

    def admitted(self, spec: SandboxSpec, tenant: Tenant) -> SandboxSpec:
        """Return the spec with the tenant's mark; raise `PolicyDenied` or `QuotaExceeded` for what it may not have."""
        tenant.require_ttl(spec.ttl)
        if spec.image is not None and _is_path(spec.image):
            self._require_allowed("image", spec.image)
        for mount in spec.mounts:
            self._require_allowed("mount", mount.source)
        labels = {key: value for key, value in spec.labels.items() if not key.startswith(OWN_LABELS)}
        return replace(
            spec,
            labels={**labels, TENANT_LABEL: tenant.name},
            name=None if spec.name is None else own_name(tenant, spec.name),
            idempotency_key=None if spec.idempotency_key is None else f"{tenant.name}:{spec.idempotency_key}",
            resources=self._limited(spec.resources, tenant),
        )

    def _limited(self, asked: Resources, tenant: Tenant) -> Resources:
        """Refuse what is above the ceilings, and put the ceiling where nothing is asked and it is enforced."""
        limited = asked
        for field, unit in (("cpus", "processors"), ("memory_bytes", "bytes of memory")):
            ceiling, value = getattr(tenant.quota, field), getattr(asked, field)
            if ceiling is None:
                continue
            if value is not None and value > ceiling:
                raise QuotaExceeded(f"{value:g} {unit} are more than the {ceiling:g} of this token's quota")
            if value is None and field in self._enforces:
                limited = replace(limited, **{field: ceiling})
        return limited

    def _require_allowed(self, what: str, path: str) -> None:
        resolved = Path(os.path.realpath(path))
        if not any(resolved.is_relative_to(allowed) for allowed in self._host_paths):
            raise PolicyDenied(
                f"the {what} {path!r} is a path of the server's host, which its operator does not allow; "
                "`host_paths` of the service lists what is allowed"
            )


def own_name(tenant: Tenant, name: str) -> str:
    """Return the name under which the backend knows a tenant's sandbox: two tenants may use one name."""
    return name if tenant.name == DEFAULT_TENANT else f"{tenant.name}.{name}"


def public_info(info: SandboxInfo, tenant: Tenant) -> SandboxInfo:
    """Return what the tenant is shown: its own name for the sandbox, and its own labels."""
    prefix = own_name(tenant, "")
    name = None if info.name is None else info.name.removeprefix(prefix)
    return replace(info, name=name, labels=_public(info.labels))


def public_spec(spec: SandboxSpec, tenant: Tenant) -> SandboxSpec:
    """Return what the tenant asked for, without the service's marks."""
    name = None if spec.name is None else spec.name.removeprefix(own_name(tenant, ""))
    key = None if spec.idempotency_key is None else spec.idempotency_key.removeprefix(f"{tenant.name}:")
    return replace(spec, labels=_public(spec.labels), name=name, idempotency_key=key)


def public_template(template: Template) -> Template:
    """Return what the tenant is shown of a template."""
    return replace(template, labels=_public(template.labels))


def _public(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in labels.items() if not key.startswith(OWN_LABELS)}


def _is_path(image: str) -> bool:
    return image.startswith(("/", ".", "~")) or "\0" in image or Path(image).exists()
