"""The wheel holds all that Tumbler is, and works where it is unpacked."""

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from configparser import ConfigParser
from email import message_from_string
from pathlib import Path

import pytest

import tumbler

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = [ROOT / each for each in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel and return where it is unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def metadata(wheel) -> Path:
    """The folder of the wheel's metadata."""
    return wheel / f"tumbler-{tumbler.__version__}.dist-info"


def files_of(package: Path) -> set[str]:
    """Return the paths of all files of a package, from the folder that holds it."""
    found = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    return {path.relative_to(package.parent).as_posix() for path in found}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_file_of_a_package_is_in_the_wheel(wheel, package):
    """Code, styles, scripts, templates and the mark that there are types."""
    expected = files_of(package)
    assert f"{package.name}/py.typed" in expected
    assert files_of(wheel / package.name) == expected


def test_no_other_package_is_in_the_wheel(wheel, metadata):
    assert {path.name for path in wheel.iterdir()} == {metadata.name, *(package.name for package in PACKAGES)}


def test_every_plugin_and_command_is_declared(metadata):
    declared = ConfigParser()
    declared.read(metadata / "entry_points.txt")
    project = PROJECT["project"]
    assert dict(declared["tumbler.v1"]) == project["entry-points"]["tumbler.v1"]
    assert dict(declared["pytest11"]) == project["entry-points"]["pytest11"]
    assert dict(declared["console_scripts"]) == project["scripts"]


def test_the_licence_and_every_extra_are_declared(metadata):
    fields = message_from_string((metadata / "METADATA").read_text())
    assert fields["License-Expression"] == "Apache-2.0"
    assert (metadata / "licenses/LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert set(fields.get_all("Provides-Extra")) == PROJECT["project"]["optional-dependencies"].keys()


def test_what_is_unpacked_works(wheel, tmp_path):
    # `-S` keeps the editable installation, which a .pth file brings, out of the way.
    path = os.pathsep.join([str(wheel), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    finished = subprocess.run(
        [sys.executable, "-S", "-m", "tumbler.cli.main", "plugins", "--json", "--check"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    plugins = [each for each in json.loads(finished.stdout)["plugins"] if each["distribution"] == "tumbler"]
    assert {each["name"]: each["status"] for each in plugins} == dict.fromkeys(
        PROJECT["project"]["entry-points"]["tumbler.v1"], "ok"
    )
