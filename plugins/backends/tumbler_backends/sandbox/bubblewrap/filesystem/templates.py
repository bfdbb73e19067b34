"""Snapshots: the files of sandboxes, kept for whoever comes later, or while their owner lives; starts nothing."""

import contextlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox_control import Template
from tumbler.errors import SandboxNotFound
from tumbler_backends.sandbox.bubblewrap.filesystem.copying import copy_tree
from tumbler_backends.sandbox.bubblewrap.ownership.owners import OwnerRecord, read_owner
from tumbler_backends.sandbox.bubblewrap.ownership.removal import remove_tree
from tumbler_backends.sandbox.posix.opening import opened

__all__ = ["StoredTemplate", "TemplateStore"]

_RECORD: Final = "template.json"
_PARTIAL: Final = ".partial-"
_GONE: Final = ".gone-"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, kw_only=True)
class StoredTemplate:
    """A template, and what a sandbox made from it needs to know."""

    id: str
    created: float
    source: str
    bytes: int
    labels: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    """The image of the sandbox it was taken of."""
    lower: str | None = None
    """The folder of that image."""

    def public(self) -> Template:
        """Return what callers are told."""
        return Template(
            id=self.id, created=self.created, source=self.source, bytes=self.bytes, labels=dict(self.labels)
        )


class TemplateStore:
    """The folder of all templates; each has a record and the files in a folder of its own.

    So has one that is being made, and there and in templates of an owner's own is the owner's record, too.
    """

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which need not be there."""
        self._folder = folder

    def add(
        self,
        layer: int,
        *,
        source: str,
        image: str | None,
        lower: str | None,
        labels: Mapping[str, str],
        owned: bool = False,
    ) -> StoredTemplate:
        """Copy an open folder into a new template. Raises `OSError`, and leaves nothing then.

        One that is `owned` is swept when this process is dead.
        """
        identity = f"template-{secrets.token_hex(6)}"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = self._folder / f"{_PARTIAL}{identity}"
        try:
            (partial / "files").mkdir(parents=True)
            OwnerRecord.of_this_process(()).save(partial)
            with opened(os.open(partial / "files", _FOLDER)) as target:
                size = copy_tree(layer, target)
            stored = StoredTemplate(
                id=identity,
                created=time.time(),
                source=source,
                bytes=size,
                labels=dict(labels),
                image=image,
                lower=lower,
            )
            (partial / _RECORD).write_text(json.dumps(asdict(stored)))
            if not owned:
                OwnerRecord.remove(partial)
            partial.rename(self._folder / identity)
        except BaseException:
            remove_tree(partial)
            raise
        return stored

    def get(self, identity: str) -> StoredTemplate:
        """Return a template; raises `SandboxNotFound`."""
        stored = self._load(self._folder / identity) if "/" not in identity else None
        if stored is None:
            raise SandboxNotFound(f"there is no template {identity!r} in {self._folder}; `templates` lists those there")
        return stored

    def files(self, identity: str) -> Path:
        """Return the folder with a template's files."""
        return self._folder / identity / "files"

    def all(self) -> list[StoredTemplate]:
        """Return the templates, oldest first."""
        if not self._folder.is_dir():
            return []
        found = [self._load(folder) for folder in self._folder.iterdir() if not folder.name.startswith(".")]
        return sorted((stored for stored in found if stored is not None), key=lambda stored: stored.created)

    def delete(self, identity: str) -> None:
        """Remove a template; raises `SandboxNotFound`."""
        self.get(identity)
        self._remove(identity)

    def sweep(self) -> int:
        """Remove the templates of dead owners, and what is left of copies and removals that were cut short.

        Returns how many templates that were. Several processes may do this at once.
        """
        count = 0
        for folder in sorted(self._folder.iterdir()) if self._folder.is_dir() else []:
            owner = read_owner(folder)
            if folder.name.startswith(_GONE):
                remove_tree(folder)  # another removal was interrupted, or is at it: both are harmless
            elif owner is not None and owner.is_dead():
                with contextlib.suppress(SandboxNotFound):
                    self._remove(folder.name)
                    count += not folder.name.startswith(_PARTIAL)
        return count

    def _remove(self, identity: str) -> None:
        gone = self._folder / f"{_GONE}{identity}-{secrets.token_hex(4)}"
        try:
            (self._folder / identity).rename(gone)
        except FileNotFoundError:
            raise SandboxNotFound(f"template {identity!r} was deleted meanwhile") from None
        remove_tree(gone)

    def _load(self, folder: Path) -> StoredTemplate | None:
        try:
            return StoredTemplate(**json.loads((folder / _RECORD).read_text()))
        except (OSError, ValueError, TypeError):
            return None
