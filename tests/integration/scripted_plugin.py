"""A plugin of the tests, installed into a folder of its own: policies from scripts, for runs of the real command.

The backend `spoken/policy` serves a model folder's tokenizer and answers by the script of its settings: what it
samples is recorded, trained and reported as any policy's replies are.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from tumbler import hookimpl
from tumbler.config import Settings
from tumbler.specs import BackendSpec
from tumbler.testing.fakes import ScriptedInference
from tumbler_backends.inference.transformers.tokenizer import HuggingFaceTokenizer


class ScriptSettings(Settings):
    """What the policy says."""

    replies: tuple[str, ...]
    """One after the other in each episode: as many as the prompt holds replies already decide which; then the last."""


class ScriptedPolicy(ScriptedInference):
    """Says the replies of the settings in order; it has no weights, and takes new ones for its version alone."""

    def __init__(self, settings: ScriptSettings) -> None:
        super().__init__(self._next)
        self._replies = settings.replies

    async def start(self, model: Path) -> None:
        self._tokenizer = HuggingFaceTokenizer(model)

    def _next(self, prompt: str) -> str:
        said = sum(reply in prompt for reply in self._replies[:-1])
        return self._replies[min(said, len(self._replies) - 1)]


def _policy() -> type[ScriptedPolicy]:
    return ScriptedPolicy


def _settings() -> type[ScriptSettings]:
    return ScriptSettings


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    return [BackendSpec(name="policy", summary="A script.", load=_policy, config=_settings, roles=("inference",))]


def call(name: str, **arguments: object) -> str:
    """Return a reply that calls a tool."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


class Site:
    """A folder to work in, and the plugin on the path of what is started there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        site = folder / "site"
        info = site / "tumbler_spoken-1.0.dist-info"
        info.mkdir(parents=True)
        (site / "tumbler_spoken.py").write_text(Path(__file__).read_text())
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tumbler-spoken\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[tumbler.v1]\nspoken = tumbler_spoken\n")
        self._environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def tumbler(self, *arguments: str, timeout: float) -> str:
        """Run the command and return what it printed; it must succeed."""
        command = [sys.executable, "-c", "import sys; from tumbler.cli.main import main; sys.exit(main())", *arguments]
        finished = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert finished.returncode == 0, f"{arguments} exited with {finished.returncode}:\n{finished.stderr[-4000:]}"
        return finished.stdout
