"""Where one sandbox's files are: plain folders, an image with a layer of changes, or memory of a set size."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from tumbler.contracts.sandbox import Mount, SandboxSpec
from tumbler_backends.sandbox.bubblewrap.filesystem.copying import copy_tree
from tumbler_backends.sandbox.bubblewrap.filesystem.files import SandboxFiles
from tumbler_backends.sandbox.bubblewrap.filesystem.layout import ETC_FILES, Layout
from tumbler_backends.sandbox.bubblewrap.filesystem.mounting import Bind, MountPlan
from tumbler_backends.sandbox.bubblewrap.network import Network
from tumbler_backends.sandbox.bubblewrap.room import OpenRoom, Room
from tumbler_backends.sandbox.posix.opening import opened

__all__ = ["Storage"]

_MOUNT_POINTS: Final = ("/proc", "/dev", "/run")
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Storage:
    """The folders of one sandbox and the room in which its processes see them."""

    def __init__(
        self, layout: Layout, spec: SandboxSpec, lower: Path | None, network: Network, seed: Path | None = None
    ) -> None:
        """Plan it; `make` makes it.

        Args:
            layout: what lies where.
            spec: what was asked for.
            lower: the root folder of the image.
            network: the way out.
            seed: the files of a template to start from.
        """
        self.layout = layout
        self.lower = lower
        self.network = network
        self._seed = seed
        self._disk_bytes = spec.resources.disk_bytes
        binds = tuple(_bind(mount) for mount in spec.mounts)
        # bwrap follows links to its mount points: it gets only those above which the sandbox cannot make any.
        outer = [bind for bind in binds if not self._is_below_writable(bind.target)]
        self._inner = tuple(bind for bind in binds if bind not in outer)
        self._staged = tuple(replace(bind, target=f"/mounts/{number}") for number, bind in enumerate(outer))
        self._outer = tuple(
            replace(bind, source=f"{layout.folder}{staged.target}")
            for bind, staged in zip(outer, self._staged, strict=True)
        )
        self.room = Room(self._plan(), network, keeps=self._disk_bytes is not None)

    @property
    def mounted(self) -> bool:
        """Tell whether the files can be reached only through the room."""
        return self.lower is not None or self._disk_bytes is not None

    @property
    def in_memory(self) -> bool:
        """Tell whether the files end with their owner."""
        return self._disk_bytes is not None

    def make(self) -> None:
        """Make the folders; those of a template are copied unless they go to memory."""
        self.layout.make()
        if self._disk_bytes is not None:
            return
        if self.lower is not None:
            (self.layout.layer / "upper").mkdir(parents=True)
        if self._seed is not None:
            with opened(os.open(self._seed, _FOLDER)) as seed, self.layer(None) as layer:
                copy_tree(seed, layer)
        if self.lower is None:
            self.layout.make_places()

    def arguments(self, etc: Path, shared_memory_bytes: int) -> list[str]:
        """Return bwrap's options for the file system."""
        return self.layout.arguments(etc, shared_memory_bytes, self._outer)

    def files(self, room: OpenRoom | None = None) -> SandboxFiles:
        """Return the files; where they are `mounted`, as `room` sees them."""
        root, staging = self.layout.root, self.layout.folder
        if room is not None and room.root is not None:
            root = Path(f"/proc/self/fd/{room.root}")
        layout = self.layout
        beside = layout.has_image or bool(self._inner)
        if self.mounted:
            staging = root
        return SandboxFiles(
            root, None if beside else staging, layout.workdir, layout.writable, layout.reserved, layout.user.name
        )

    @contextmanager
    def layer(self, room: OpenRoom | None) -> Iterator[int]:
        """Lend a descriptor of the folder that holds what the sandbox has changed."""
        if room is not None and room.layer is not None:
            # Another open file: two readers of a folder must not share their place in it.
            path = Path(f"/proc/self/fd/{room.layer}")
        else:
            path = self.layout.layer / "upper" if self.layout.has_image else self.layout.root
        with opened(os.open(path, _FOLDER)) as layer:
            yield layer

    def _plan(self) -> MountPlan | None:
        layout, layer = self.layout, self.layout.layer
        if self.lower is None and self._disk_bytes is None and not (self._inner or self._staged):
            return None
        memory = layer if self.lower is not None else layout.root
        return MountPlan(
            root=str(layout.root),
            tmpfs=str(memory) if self._disk_bytes is not None else None,
            tmpfs_bytes=self._disk_bytes or 0,
            lower=str(self.lower) if self.lower is not None else None,
            upper=str(layer / "upper") if self.lower is not None else "",
            work=str(layer / "work") if self.lower is not None else "",
            by_user=os.geteuid() != 0,
            seed=str(self._seed) if self._seed is not None and self._disk_bytes is not None else None,
            mount_points=_MOUNT_POINTS if self.lower is not None else (),
            places=layout.places,
            texts=tuple(ETC_FILES.items()) if self.lower is not None else (),
            binds=self._inner,
            staging=str(layout.folder),
            staged=self._staged,
        )

    def _is_below_writable(self, target: str) -> bool:
        return any(target.startswith(f"{place.rstrip('/')}/") for place in self.layout.writable)


def _bind(mount: Mount) -> Bind:
    return Bind(source=mount.source, target=os.path.normpath(mount.target), writable=mount.writable)
