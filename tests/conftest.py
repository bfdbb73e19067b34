"""What all tests share: examples that repeat, the order of the files, and fresh virtual environments."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Time differs from machine to machine, so it must decide nothing. For a deeper look: --hypothesis-profile thorough
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("suite", PATIENT, derandomize=True, max_examples=50)
settings.register_profile("thorough", PATIENT, max_examples=1000)
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with slow tests first, so that no worker goes on long after the others."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


class FreshVenv:
    """A new virtual environment that sees what this one has installed, so that nothing is downloaded.

    A command that fails shows its output.
    """

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        inherited = sysconfig.get_path("purelib")
        pth = folder / "lib" / version / "site-packages" / "inherited.pth"
        # `addsitedir`, and not the bare path, so that editable installations in there are found too.
        pth.write_text(f"import site; site.addsitedir({inherited!r})\n", encoding="utf-8")

    def install(self, source: Path) -> None:
        """Install a distribution with pip, as a user does, but for its dependencies."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "--disable-pip-version-check"]
        options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
        self._run([*pip, "install", *options, str(source)], cwd=source)

    def python(self, *arguments: str, cwd: Path) -> str:
        """Run Python and return what it printed."""
        return self._run([str(self.bin / "python"), *arguments], cwd=cwd)

    def tumbler(self, *arguments: str, cwd: Path) -> str:
        """Run the command `tumbler` and return what it printed."""
        return self.python("-m", "tumbler.cli.main", *arguments, cwd=cwd)

    def _run(self, command: list[str], *, cwd: Path) -> str:
        # The types of torch and transformers take mypy a minute to read the first time.
        cache = Path(__file__).parents[1] / ".mypy_cache" / "plugins"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MYPY_CACHE_DIR": str(cache)}
        environment.pop("PYTHONPATH", None)
        finished = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, (
            f"{command} exited with {finished.returncode}:\n{finished.stdout}{finished.stderr}"
        )
        return finished.stdout


@pytest.fixture(scope="module")
def fresh_venv(tmp_path_factory: pytest.TempPathFactory) -> FreshVenv:
    """Return a virtual environment that sees what this one has installed."""
    return FreshVenv(tmp_path_factory.mktemp("venv") / "venv")
