"""Find, import, build and download images; a failure says which way to mend it."""

import asyncio
import hashlib
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import aiodocker

from tumbler.errors import CapabilityError, SandboxError, SandboxStartFailed
from tumbler_backends.sandbox.docker.engine import Engine
from tumbler_backends.sandbox.docker.settings import DockerSettings

__all__ = ["Image", "Images"]

_IMPORTED: Final = "tumbler-imported"
_BUILT: Final = "tumbler-built"
_PIECE: Final = 1 << 20
_TAG_LENGTH: Final = 20


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that the engine has."""

    identity: str
    """The engine's id of its content."""
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


class Images:
    """The images of one engine. Each folder, tar and Dockerfile is taken in once for each content."""

    def __init__(self, engine: Engine, settings: DockerSettings) -> None:
        """Know none yet."""
        self._engine = engine
        self._settings = settings
        self._turn = asyncio.Lock()
        self._hashes: dict[tuple[str, int, int], str] = {}

    async def find(self, name: str | None) -> Image:
        """Return the image that a spec names, or the default one.

        Raises `CapabilityError` for one that is not there, and `SandboxStartFailed` of phase `image` for all else.
        """
        if name is None and self._settings.dockerfile is not None:
            async with self._turn:
                return await self._built(self._settings.dockerfile)
        name = name if name is not None else self._settings.image
        if name.startswith(("/", "./", "../")):
            async with self._turn:
                return await self._imported(name)
        found = await self.known(name)
        if found is not None:
            return found
        if not self._settings.pull:
            raise CapabilityError(
                f"the engine at {self._engine.address} has no image {name!r}: `docker pull {name}`, set `pull = true`, "
                "or name a folder or tar archive by a path that begins with / or ./"
            )
        async with self._turn:
            return await self._pulled(name)

    async def known(self, name: str) -> Image | None:
        """Return an image that the engine has; None where it does not."""
        try:
            found = await self._engine.ask(self._engine.client.images.inspect(name), f"looking for the image {name!r}")
        except aiodocker.DockerError as error:
            if error.status == 404:
                return None
            if error.status == 400:  # it can be no image's name
                raise CapabilityError(f"the engine knows no image {name!r}: {error.message}") from error
            raise _failed(f"the image {name!r} cannot be used: {error.message}") from error
        configuration = found.get("Config") or {}
        env = dict(word.partition("=")[::2] for word in configuration.get("Env") or [])
        return Image(identity=str(found["Id"]), env=env, labels=configuration.get("Labels") or {})

    async def _imported(self, name: str) -> Image:
        """Take a folder or a tar of this machine in, under a tag that tells its content."""
        path = Path(name)
        try:
            with await asyncio.to_thread(_open_tar, path) as file:
                tag = await asyncio.to_thread(self._hash, path, file)
                reference = f"{_IMPORTED}:{tag}"
                if (known := await self.known(reference)) is not None:
                    return known
                await self._import(file, tag)
        except SandboxError:
            raise
        except FileNotFoundError as error:
            raise CapabilityError(f"there is no folder or tar {name!r} on this machine to make an image of") from error
        except (OSError, tarfile.TarError) as error:
            raise _failed(f"{name!r} could not be made into an image: {error}") from error
        except aiodocker.DockerError as error:
            raise _failed(f"the engine takes {name!r} for no image: {error.message}") from error
        return await self._must_be_there(reference)

    async def _import(self, file: BinaryIO, tag: str) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            file.seek(0)
            while piece := await asyncio.to_thread(file.read, _PIECE):
                yield piece

        params = {"fromSrc": "-", "repo": _IMPORTED, "tag": tag}
        async with self._engine.stream("POST", "images/create", params=params, data=pieces()) as response:
            answer = await response.text()
        if '"errorDetail"' in answer:
            raise aiodocker.DockerError(500, answer[-1000:])

    def _hash(self, path: Path, file: BinaryIO) -> str:
        """Return a hash of the tar; one of an unchanged file is remembered."""
        status = path.stat()
        key = (str(path), status.st_mtime_ns, status.st_size)
        if path.is_dir() or key not in self._hashes:
            file.seek(0)
            digest = hashlib.sha256()
            while piece := file.read(_PIECE):
                digest.update(piece)
            self._hashes[key] = digest.hexdigest()[:_TAG_LENGTH]
        return self._hashes[key]

    async def _built(self, text: str) -> Image:
        tag = f"{_BUILT}:{hashlib.sha256(text.encode()).hexdigest()[:_TAG_LENGTH]}"
        if (known := await self.known(tag)) is not None:
            return known
        build = self._engine.client.images.build(fileobj=_context(text), encoding="identity", tag=tag, forcerm=True)
        try:
            await self._engine.ask(build, "building the default image", long=True)
        except aiodocker.DockerError as error:
            raise _failed(f"the Dockerfile of the setting `dockerfile` could not be built: {error.message}") from error
        return await self._must_be_there(tag)

    async def _pulled(self, name: str) -> Image:
        try:
            await self._engine.ask(self._engine.client.images.pull(name), f"downloading {name!r}", long=True)
        except aiodocker.DockerError as error:
            if error.status == 404:
                raise CapabilityError(f"there is no image {name!r} to download: {error.message}") from error
            raise _failed(f"the engine could not download the image {name!r}: {error.message}") from error
        return await self._must_be_there(name)

    async def _must_be_there(self, reference: str) -> Image:
        found = await self.known(reference)
        if found is None:
            raise _failed(f"the image {reference!r} was made and is not there: somebody removes images of the engine")
        return found


def _failed(message: str) -> SandboxStartFailed:
    return SandboxStartFailed(message, "image")


def _open_tar(path: Path) -> BinaryIO:
    """Return a tar as an open file: the file itself, or one made of a folder's content."""
    if not path.is_dir():
        return path.open("rb")
    file = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
    with tarfile.open(fileobj=file, mode="w") as archive:
        for place in sorted(_walk(path)):
            archive.add(place, arcname=place.relative_to(path), recursive=False, filter=_without_time)
    return file


def _walk(path: Path) -> list[Path]:
    found = []
    for folder, folders, files in os.walk(path):
        found += [Path(folder, name) for name in (*folders, *files)]
    return [place for place in found if not stat.S_ISSOCK(place.lstat().st_mode)]


def _without_time(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    # One content is one image, whenever its files were copied.
    entry.mtime = 0
    return entry


def _context(text: str) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text.encode())
        archive.addfile(entry, io.BytesIO(text.encode()))
    buffer.seek(0)
    return buffer
