"""What a sandbox's metadata holds beside its labels, so that another process can find and attach to it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from tumbler.contracts.sandbox import NetworkPolicy, SandboxSpec
from tumbler.errors import CapabilityError

__all__ = ["KEY", "NAME", "OWNER", "RESERVED", "labels_of", "metadata_of", "spec_from"]

RESERVED: Final = "tumbler-"
"""Labels that begin so are refused: they are the backend's own."""
OWNER: Final = "tumbler-owner"
NAME: Final = "tumbler-name"
KEY: Final = "tumbler-key"
_SPEC: Final = "tumbler-spec"
_WORKDIR: Final = "tumbler-workdir"
"""Tumbler's own server reads this key, because its folders are fixed when a sandbox is made."""
_KEPT: Final = ("image", "template", "user", "workdir", "ttl", "idle_ttl", "startup_timeout", "isolation_min", "name")


def metadata_of(spec: SandboxSpec, owner: str) -> dict[str, str]:
    """Return the metadata of a new sandbox; no variable's value and no file is in it."""
    if own := [name for name in spec.labels if name.startswith(RESERVED)]:
        raise CapabilityError(f"the label {own[0]!r} cannot be used: names that begin with {RESERVED!r} are taken")
    kept: dict[str, object] = {name: getattr(spec, name) for name in _KEPT}
    kept["network"] = asdict(spec.network)
    metadata = {**spec.labels, OWNER: owner, _WORKDIR: spec.workdir, _SPEC: json.dumps(kept)}
    if spec.name is not None:
        metadata[NAME] = spec.name
    if spec.idempotency_key is not None:
        metadata[KEY] = spec.idempotency_key
    return metadata


def labels_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the labels among a sandbox's metadata."""
    return {name: value for name, value in metadata.items() if not name.startswith(RESERVED)}


def spec_from(metadata: Mapping[str, str]) -> SandboxSpec:
    """Return the spec of a sandbox that another process made, without its variables and files."""
    labels = labels_of(metadata)
    try:
        kept = json.loads(metadata[_SPEC])
        network = kept["network"]
        policy = NetworkPolicy(mode=network["mode"], hosts=tuple(network["hosts"]), cidrs=tuple(network["cidrs"]))
        return SandboxSpec(**{name: kept[name] for name in _KEPT}, network=policy, labels=labels)
    except (KeyError, TypeError, ValueError):  # made by something other than Tumbler
        return SandboxSpec(workdir="/home/user", labels=labels, network=NetworkPolicy(mode="public"))
