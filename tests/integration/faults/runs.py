"""Starts runs as a user does, orders their faults, and ends them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from tests.integration.faults.records import STAGE, completed

REGISTRY = """
schema = 1

[envs.words]
use = "faults/words"

[runs.script]
env = "words"
agent = "react"
algorithm = {{ use = "grpo", tasks_per_step = 3, group_size = 4 }}
model = "faults/none"
backends = {{ inference = "faults/script", training = "faults/book", execution = "local" }}
stages = ["rl"]
limits = {{ turns = 4 }}
rl = {{ steps = 6, checkpoint_every = 2 }}

[envs.luck]
use = "faults/words"
every_other = true

[runs.torch]
env = "luck"
agent = "react"
algorithm = {{ use = "faults/grpo", tasks_per_step = 2, group_size = 4 }}
model = {{ use = "tiny", layers = 1, width = 32 }}
backends = {{ inference = "transformers", training = "faults/torch", execution = "local" }}
stages = ["rl"]
limits = {{ turns = 2 }}
sampling = {{ max_tokens = 4 }}
rl = {{ steps = 4, checkpoint_every = 1, collapse_patience = 0 }}
"""
PATIENCE_S = 180
_MAIN = "import sys; from tumbler.cli.main import main; sys.exit(main())"


class Site:
    """A folder to work in: the plugin, the registry, the orders, and one run at a time.

    The run's folder is `run` for its own process, and is seen as `seen` from here.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = self.seen = folder / "run"
        self.orders = folder / "orders"
        self.orders.mkdir()
        info = folder / "site" / "tumbler_faults-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / "site/tumbler_faults.py").write_text(Path(__file__).with_name("plugin.py").read_text())
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tumbler-faults\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[tumbler.v1]\nfaults = tumbler_faults\n")
        (folder / "registry.toml").write_text(REGISTRY.format())
        self._process: subprocess.Popen[str] | None = None

    def order(self, point: str) -> None:
        (self.orders / point).touch()

    def lift(self, point: str) -> None:
        (self.orders / point).unlink()

    def start(self, name: str, *overrides: str, wrapper: tuple[str, ...] = ()) -> None:
        settings = [part for each in overrides for part in ("--set", f"runs.{name}.{each}")]
        self._spawn(*wrapper, sys.executable, "-c", _MAIN, "run", name, "--folder", str(self.run), *settings)

    def resume(self, wrapper: tuple[str, ...] = ()) -> None:
        self._spawn(*wrapper, sys.executable, "-c", _MAIN, "run", "--resume", str(self.run))

    def _spawn(self, *command: str) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self.folder / "site"), os.environ.get("PYTHONPATH")])),
            "OMP_NUM_THREADS": "1",
            "TUMBLER_FAULTS": str(self.orders),
        }
        self._process = subprocess.Popen(
            command, cwd=self.folder, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    @property
    def process(self) -> "subprocess.Popen[str]":
        assert self._process is not None
        return self._process

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if self.process.poll() is not None:
                raise AssertionError(f"the run ended before {what}:\n{self.process.communicate()[1][-4000:]}")
            assert time.monotonic() < deadline, f"waited in vain until {what}"
            time.sleep(0.02)

    def until_reached(self, point: str) -> None:
        """Wait until the run stands at the point; where only some requests stand there, until others are done."""
        self.wait_until((self.orders / f"{point}.reached").exists, f"{point} was reached")
        kind, _, step = point.rpartition("-")
        if kind == "generate":
            begun = f'"id":"{STAGE}/{step}/'.encode()
            self.wait_until(lambda: begun in completed(self.seen), f"a rollout of step {step} was completed")

    def kill(self) -> None:
        """Kill the run's process, which is at work."""
        assert self.process.poll() is None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=PATIENCE_S)

    def finish(self) -> str:
        """Wait until the run ends as it should, and return what it said."""
        return self.end(0)

    def fail(self) -> str:
        """Wait until the run ends with an error that is told, and return what it said."""
        errors = self.end(1)
        assert f"tumbler run --resume {self.run}" in errors, errors[-4000:]
        return errors

    def end(self, code: int) -> str:
        """Wait until the command ends with the exit code, without a traceback, and return what it said."""
        _, errors = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == code, errors[-4000:]
        assert "Traceback" not in errors, errors[-4000:]
        return errors

    def children(self, word: str) -> list[psutil.Process]:
        """Return the processes that the run's process has started, and that have the word in their command line."""
        found = []
        for each in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # a zombie, too
                if any(word in part for part in each.cmdline()):
                    found.append(each)
        return found

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
