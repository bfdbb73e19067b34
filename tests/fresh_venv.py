"""A fresh virtual environment that sees what this one has installed, so that nothing is downloaded."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path


class FreshVenv:
    """Runs commands of a new virtual environment; a failure shows its output."""

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
        cache = Path(__file__).parents[1] / ".mypy_cache" / "fresh-venv"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MYPY_CACHE_DIR": str(cache)}
        environment.pop("PYTHONPATH", None)
        finished = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, (
            f"{command} exited with {finished.returncode}:\n{finished.stdout}{finished.stderr}"
        )
        return finished.stdout
