"""Where a conversing agent works: a sandbox that sees one folder of this machine; knows no agent."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from tumbler.cli.agents.mounted import MountedSandbox
from tumbler.cli.agents.naming import backend_or_default, component_of
from tumbler.cli.sandboxes.reach import Shelf
from tumbler.contracts.sandbox import Mount, NetworkPolicy, Sandbox, SandboxBackend, SandboxSpec
from tumbler.contracts.values import JSON
from tumbler.errors import CapabilityError, PluginError, RunError, SandboxUnavailable

__all__ = ["Place", "Site", "opened_place"]

_ELSEWHERE: Final = "/work"
_TTL_S: Final = 30 * 86400.0
"""A person may leave a conversation open for days; the sandbox ends with this process in any case."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the person asks for."""

    folder: Path
    """The folder of this machine that the agent works in."""
    network: NetworkPolicy
    backend: str | None = None
    """A backend that makes sandboxes, or a table under [backends]; None takes the installed default, never a table."""
    image: str | None = None
    settings: Sequence[str] = ()
    """`KEY=VALUE` of the backend."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A sandbox that is ready."""

    sandbox: Sandbox
    touches: Sequence[str]
    """What the agent can read, change and reach, in words."""


@asynccontextmanager
async def opened_place(shelf: Shelf, site: Site) -> AsyncGenerator[Place]:
    """Yield a sandbox over the folder; it ends with the context, the folder stays.

    Raises `SandboxUnavailable` and `CapabilityError` with a word on what to do.
    """
    backend = _built(shelf, site)
    try:
        try:
            await backend.start()
            sandbox, inside = await _created(backend, site)
        except CapabilityError as error:
            if "mount" not in str(error):
                raise
            raise CapabilityError(
                f"{error}\nthe agent works in a folder of this machine that its sandbox mounts; with --sandbox NAME, "
                f"choose a backend that can do so; installed are: {', '.join(shelf.backends('sandbox'))}"
            ) from error
        except SandboxUnavailable as error:
            raise SandboxUnavailable(
                f"{error}\nthe agent works in a sandbox; `tumbler sandbox doctor` tells which backends work here, and "
                "--sandbox NAME chooses one"
            ) from error
        try:
            yield Place(sandbox=sandbox, touches=list(_touches(site, sandbox, inside)))
        finally:
            await sandbox.delete()
    finally:
        await backend.close()


def _built(shelf: Shelf, site: Site) -> SandboxBackend:
    folder = site.folder
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder; --workdir names the one that the agent works in")
    shelf, name = backend_or_default(shelf, site.backend, "sandbox", option="--sandbox NAME")
    component, known = component_of(shelf, name), shelf.backends("sandbox")
    if component not in known:
        raise PluginError(f"{name!r} makes no sandboxes; those that do: {', '.join(known) or 'none'}")
    settings: dict[str, JSON] = {}
    if "mountable" in shelf.host.settings_model("backend", component).model_fields:
        settings["mountable"] = [str(folder)]
    return cast("SandboxBackend", shelf.backend(name, settings, site.settings))


async def _created(backend: SandboxBackend, site: Site) -> tuple[MountedSandbox, str]:
    """Return the sandbox and where it has the folder: at the same path, so that programs in it find themselves.

    Where the path is one of the system's, it is at another. Where the usual user may not write there, commands run as
    the folder's owner. Raises `CapabilityError` where nothing helps.
    """
    owner = str(site.folder.stat().st_uid)
    problem = CapabilityError("no sandbox was made")
    for inside, user in ((str(site.folder), None), (_ELSEWHERE, None), (str(site.folder), owner)):
        try:
            return await _tried(backend, site, inside, user), inside
        except CapabilityError as error:
            problem = error
    raise problem


async def _tried(backend: SandboxBackend, site: Site, inside: str, user: str | None) -> MountedSandbox:
    """Return a sandbox in which the folder really is, and can be changed; raise `CapabilityError` if it is not."""
    mount = Mount(source=str(site.folder), target=inside, writable=True)
    spec = SandboxSpec(image=site.image, user=user, network=site.network, mounts=(mount,), ttl=_TTL_S)
    sandbox = MountedSandbox(await backend.create(spec), inside)
    try:
        await _require_folder(sandbox, site.folder)
    except BaseException:
        await sandbox.delete()
        raise
    return sandbox


async def _require_folder(sandbox: MountedSandbox, folder: Path) -> None:
    result = await sandbox.exec(["mktemp", "./.tumbler-XXXXXX"])
    made = result.stdout.decode(errors="replace").strip().removeprefix("./")
    if result.exit_code != 0:
        said = result.stderr.decode(errors="replace").strip()
        raise CapabilityError(f"{folder} is mounted, and commands in the sandbox cannot write there: {said}")
    try:
        (folder / made).unlink()
    except FileNotFoundError:
        raise CapabilityError(f"the backend hides {folder}, which it was to mount, from commands") from None


def _touches(site: Site, sandbox: Sandbox, inside: str) -> Sequence[str]:
    where = str(site.folder) if inside == str(site.folder) else f"{site.folder} (there: {inside})"
    lines = [f"It can read and change {where}"]
    rest = "the image's system" if site.image is not None else "the system's programs, read-only"
    lines.append(f"Of the rest it sees {rest}; isolation: {sandbox.tier}")
    match site.network.mode:
        case "none":
            lines.append("It has no network (--network gives it one)")
        case "allowlist":
            lines.append(f"It reaches {', '.join(site.network.hosts) or 'no host'} and nothing else")
        case _:
            lines.append("It reaches every public address")
    home = Path.home().resolve()
    if home.is_relative_to(site.folder):
        what = "This is your home folder" if home == site.folder else "Your home folder is part of it"
        lines.append(f"{what}, with all keys and settings in it: --workdir names a smaller one")
    return lines
