"""Snapshots: images that hold a container's files, those in memory included."""

import asyncio
import json
import os
import secrets
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import IO, Final

import aiodocker
from aiodocker.types import JSONObject

from tumbler.contracts.sandbox_control import Template
from tumbler.errors import SandboxError, SandboxNotFound, SandboxStartFailed
from tumbler_backends.sandbox.docker.box import Box
from tumbler_backends.sandbox.docker.container import Container, removed_unless_kept
from tumbler_backends.sandbox.docker.engine import Engine
from tumbler_backends.sandbox.docker.images import Image, Images
from tumbler_backends.sandbox.docker.owners import LABEL

__all__ = ["Templates"]

_REPOSITORY: Final = "tumbler-template"
_LABEL: Final = f"{LABEL}.template"
_PIECE: Final = 1 << 20
_TAR_S: Final = 600.0
_FAILED: Final = 2
"""From this status on tar has left something out."""


class Templates:
    """The snapshots that one engine has, of all owners."""

    def __init__(self, engine: Engine, images: Images, labels: Mapping[str, str]) -> None:
        """Know none yet; `labels` tell whose the containers are that are made for a moment."""
        self._labels = dict(labels)
        self._engine = engine
        self._images = images
        self._empty: set[tuple[str, str]] = set()

    async def make(self, box: Box, container: Container, image: str, places: tuple[str, ...]) -> Template:
        """Copy a sandbox's files into an image; `places` are the folders that its own file system does not hold."""
        identity = secrets.token_hex(8)
        labels = {
            _LABEL: identity,
            f"{_LABEL}.created": str(time.time()),
            f"{_LABEL}.source": box.id,
            f"{_LABEL}.labels": json.dumps(dict(box.spec.labels)),
        }
        if not places:
            await container.commit(_REPOSITORY, identity, labels)
        else:
            with tempfile.TemporaryFile(buffering=0) as file:
                await _pack(box, places, file)
                configuration: JSONObject = {"Image": image, "Cmd": ["-"], "Labels": self._labels}
                helper = await Container.create(self._engine, f"tumbler-copy-{identity}", configuration)
                async with removed_unless_kept(helper):
                    await helper.extract("/", _pieces(file))
                    await helper.commit(_REPOSITORY, identity, labels)
                await helper.remove()
        return (await self._found(identity))[1]

    async def find(self, identity: str) -> Image:
        """Return a snapshot's image; raise `SandboxNotFound`."""
        return (await self._found(identity))[0]

    async def list(self) -> Sequence[Template]:
        """Return the snapshots, oldest first."""
        found = [_template(shown) for shown in await self._shown() if _is_named(shown)]
        return sorted(found, key=lambda template: template.created)

    async def delete(self, identity: str) -> None:
        """Remove a snapshot; sandboxes made from it live on."""
        await self._found(identity)
        try:
            await self._engine.ask(
                self._engine.client.images.delete(f"{_REPOSITORY}:{identity}", force=True), "removing a snapshot"
            )
        except aiodocker.DockerError as error:
            raise SandboxError(f"the engine could not remove the snapshot {identity!r}: {error.message}") from error

    async def sweep(self) -> None:
        """Remove the content of removed snapshots that no container needs any more."""
        for shown in await self._shown():
            if not _is_named(shown):
                try:
                    await self._engine.ask(self._engine.client.images.delete(str(shown["Id"])), "removing a snapshot")
                except aiodocker.DockerError:  # still in use
                    continue

    async def fill(self, box: Box, container: Container, image: Image, places: tuple[str, ...]) -> None:
        """Copy what the image has in folders that lie in memory now into them; raise `SandboxStartFailed`."""
        for place in places:
            if (image.identity, place) in self._empty:
                continue
            with tempfile.TemporaryFile(buffering=0) as file:
                if not await self._fetch(container, place, file):
                    self._empty.add((image.identity, place))
                    continue
                file.seek(0)
                parent = place.rpartition("/")[0] or "/"
                words = ["tar", "--no-same-owner", "-xpf", "-", "-C", parent]
                said = await _run_tar(box, words, stdin=file.fileno(), stdout=None)
                if said[0] != 0:
                    raise SandboxStartFailed(
                        f"what the image has in {place} could not be copied: tar ended with {said[0]}: {said[1]}",
                        "files",
                    )

    async def _fetch(self, container: Container, place: str, file: IO[bytes]) -> bool:
        """Get a folder of a container's own file system; return whether there is anything in it."""
        try:
            async for piece in self._engine.archive(container.id, place):
                await asyncio.to_thread(file.write, piece)
        except aiodocker.DockerError as error:
            if error.status != 404:
                raise SandboxStartFailed(f"the image's {place} could not be read: {error.message}", "files") from error
            return False
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            archive.next()
            return archive.next() is not None

    async def _found(self, identity: str) -> tuple[Image, Template]:
        for shown in await self._shown():
            if _is_named(shown) and (template := _template(shown)).id == identity:
                image = await self._images.known(f"{_REPOSITORY}:{identity}")
                if image is not None:
                    return image, template
        raise SandboxNotFound(f"the engine at {self._engine.address} has no snapshot {identity!r}")

    async def _shown(self) -> Sequence[Mapping[str, object]]:
        images = self._engine.client.images.list(filters={"label": [_LABEL]})
        return await self._engine.ask(images, "listing snapshots")


async def _pack(box: Box, places: tuple[str, ...], file: IO[bytes]) -> None:
    words = ["tar", "-cf", "-", "-C", "/", "--", *(place.lstrip("/") for place in places)]
    said = await _run_tar(box, words, stdin=None, stdout=file.fileno())
    if said[0] >= _FAILED:
        raise SandboxError(f"the files of sandbox {box.id} could not be copied: tar ended with {said[0]}: {said[1]}")


async def _run_tar(box: Box, words: list[str], *, stdin: int | None, stdout: int | None) -> tuple[int, str]:
    """Run tar inside, between files of this machine; return its status and what it complained of."""
    with tempfile.TemporaryFile(buffering=0) as complaints:
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        streams = (nothing if stdin is None else stdin, nothing if stdout is None else stdout, complaints.fileno())
        try:
            started = await box.start(words, streams, cwd="/")
        finally:
            os.close(nothing)
        try:
            ending = await box.ended(started, _TAR_S)
        finally:
            await started.kill()
        complaints.seek(0)
        said = complaints.read(2000).decode(errors="replace").strip()
        return (ending.code if ending is not None else 124, said)


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    file.seek(0)
    while piece := await asyncio.to_thread(file.read, _PIECE):
        yield piece


def _is_named(shown: Mapping[str, object]) -> bool:
    """Tell whether a snapshot was not removed: only its containers hold it then, and it has no name any more."""
    tags = shown.get("RepoTags")
    return isinstance(tags, list) and any(tag.startswith(f"{_REPOSITORY}:") for tag in tags)


def _template(shown: Mapping[str, object]) -> Template:
    labels = shown["Labels"]
    assert isinstance(labels, dict)
    size = shown.get("Size")
    return Template(
        id=labels[_LABEL],
        created=float(labels[f"{_LABEL}.created"]),
        source=labels[f"{_LABEL}.source"],
        bytes=int(size) if isinstance(size, int) else None,
        labels=json.loads(labels[f"{_LABEL}.labels"]),
    )
