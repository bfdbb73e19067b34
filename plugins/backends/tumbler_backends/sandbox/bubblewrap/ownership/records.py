"""What stands in a sandbox's folder about it, so that it can be found by those who did not make it."""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from tumbler.contracts.sandbox import Healthcheck, Mount, NetworkPolicy, Resources, SandboxSpec
from tumbler.contracts.sandbox_control import SandboxInfo, SandboxState

__all__ = ["Record", "read_records", "without_files"]

_FILE: Final = "sandbox.json"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One sandbox as its owner wrote it down."""

    id: str
    owner: str
    created: float
    """Seconds since the epoch."""
    expires: float
    """Seconds since the epoch."""
    spec: SandboxSpec
    """What was asked for, without the files."""
    image: str | None = None
    """The image of the spec or of its template."""
    lower: str | None = None
    """The folder that the image was resolved to."""
    in_memory: bool = False
    """Whether the files are gone with the owner."""
    state: SandboxState = "running"

    def save(self, folder: Path, *, fresh: bool = False) -> None:
        """Write the record into the sandbox's folder, in one step unless nobody can know the folder yet."""
        text = json.dumps(asdict(self), separators=(",", ":"))
        if fresh:
            (folder / _FILE).write_text(text)
            return
        temporary = folder / f".{_FILE}"
        temporary.write_text(text)
        temporary.replace(folder / _FILE)

    @classmethod
    def load(cls, folder: Path) -> "Record | None":
        """Read a sandbox's folder; None where it holds no record that this version understands."""
        try:
            content = json.loads((folder / _FILE).read_text())
            return cls(**{**content, "spec": _spec(content["spec"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def info(self) -> SandboxInfo:
        """Return what callers are told."""
        return SandboxInfo(
            id=self.id,
            backend="bubblewrap",
            state=self.state,
            tier="namespace",
            created=self.created,
            expires=self.expires,
            owner=self.owner,
            name=self.spec.name,
            image=self.image,
            labels=self.spec.labels,
        )


def without_files(spec: SandboxSpec) -> SandboxSpec:
    """Return the spec as a record keeps it."""
    return replace(spec, files={}) if spec.files else spec


def read_records(folder: Path) -> list[Record]:
    """Return the records of an owner's sandboxes, oldest first."""
    try:
        with os.scandir(folder) as entries:
            folders = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    found = [record for record in map(Record.load, folders) if record is not None]
    return sorted(found, key=lambda record: record.created)


def _spec(content: dict[str, Any]) -> SandboxSpec:
    """Build a spec of what JSON made of one."""
    values = dict(content)
    network = values["network"]
    health = values["healthcheck"]
    values["resources"] = Resources(**values["resources"])
    values["network"] = NetworkPolicy(
        mode=network["mode"], hosts=tuple(network["hosts"]), cidrs=tuple(network["cidrs"])
    )
    values["mounts"] = tuple(Mount(**mount) for mount in values["mounts"])
    if health is not None:
        values["healthcheck"] = Healthcheck(**{**health, "command": tuple(health["command"])})
    return SandboxSpec(**values)
