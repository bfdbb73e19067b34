"""Tumbler's sandboxes beside SWE-ReX, ROCK's rocklet and Docker, as ratios in one run.

Each contender is a process of its own. The rounds alternate, so that all meet the same load, and each figure is
the median of its rounds. SWE-ReX and the rocklet run without any isolation and without their HTTP servers, which
is the best case for them; they are installed into an environment of their own. With `--docker`, an engine of its own
is started (as root on Debian, see tools/), and Tumbler's docker backend and Docker's command line are measured too.

    python benchmarks/sandbox --rounds 5 --docker
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
CONTENDERS = HERE / "contenders"
TOOLS = HERE.parent.parent / "tools"
IMAGE = "tumbler-benchmark"
PEERS = {"swe-rex": ("swe_rex.py", "swe-rex==1.4.0"), "rocklet": ("rocklet.py", "rl-rock[rocklet]==1.11.0")}
UNITS = {"cycle": "create → exec → delete, ms", "exec": "exec/s", "session": "session commands/s", "files": "MiB/s"}
FAST = {"cycle": 30, "exec": 60, "session": 1000, "files": 30}
SLOW = {"cycle": 3, "exec": 10, "session": 20, "files": 5}
"""How often each measure is repeated in one round: by contenders that are fast at it, and by the others."""
FASTS = {
    "bubblewrap": {"cycle", "exec", "session", "files"},
    "docker": {"exec", "session", "files"},
    "swe-rex": {"exec", "cycle", "files"},
    "rocklet": {"exec", "cycle", "files"},
}
START_S = 120


class Contender:
    """A worker process that measures on request."""

    def __init__(self, name: str, command: list[str]) -> None:
        """Start it and wait until it is ready."""
        self.name = name
        self.rounds: dict[str, list[float]] = {}
        # Its own folder first on the path, and nothing of the caller's.
        environment = {**os.environ, "PYTHONPATH": str(CONTENDERS)}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._answer()

    def measure(self, name: str) -> None:
        """Run one round of a measure and keep its figure."""
        count = (FAST if name in FASTS.get(self.name, ()) else SLOW)[name]
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"measure": name, "count": count}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise RuntimeError(f"{self.name} failed at {name}: {answer['error']}")
        seconds = answer["seconds"]
        megabytes = 2 if name == "files" else 1
        self.rounds.setdefault(name, []).append(
            1e3 * seconds / count if name == "cycle" else megabytes * count / seconds
        )

    def close(self) -> None:
        """End the worker."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=START_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended; what it said is above")
        return json.loads(line)


@contextlib.contextmanager
def own_engine() -> Iterator[None]:
    """Start a Docker engine that holds `IMAGE`, and let DOCKER_HOST name it."""
    made = subprocess.run(["sh", str(TOOLS / "make-test-image.sh")], check=True, stdout=subprocess.PIPE, text=True)
    script = str(TOOLS / "start-docker-engine.sh")
    with tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as folder:
        try:
            started = subprocess.run(["sh", script, folder], check=True, stdout=subprocess.PIPE, text=True)
            os.environ["DOCKER_HOST"] = started.stdout.strip()
            subprocess.run(["docker", "import", made.stdout.strip(), IMAGE], check=True, stdout=subprocess.DEVNULL)
            yield
        finally:
            os.environ.pop("DOCKER_HOST", None)
            subprocess.run(["sh", script, "--stop", folder], check=True)


def peer_python(name: str, requirement: str, environments: Path) -> str:
    """Return the Python of a peer's environment, made where it is missing."""
    folder = environments / name
    python = folder / "bin" / "python"
    if not (folder / "installed").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", requirement], check=True)
        (folder / "installed").touch()
    return str(python)


def start_all(arguments: argparse.Namespace) -> list[Contender]:
    """Start every contender that can be had."""
    own = str(CONTENDERS / "tumbler_backend.py")
    commands = {"bubblewrap": [sys.executable, own, "bubblewrap", arguments.bubblewrap]}
    for name, (script, requirement) in PEERS.items():
        commands[name] = [peer_python(name, requirement, arguments.environments), str(CONTENDERS / script)]
    if arguments.docker:
        commands["docker"] = [sys.executable, own, "docker", json.dumps({"image": IMAGE})]
        commands["docker CLI"] = [sys.executable, str(CONTENDERS / "docker_cli.py"), IMAGE]
    started: list[Contender] = []
    try:
        started.extend(Contender(name, command) for name, command in commands.items())
    except BaseException:
        for contender in started:
            contender.close()
        raise
    return started


def table(contenders: list[Contender]) -> str:
    """Return the figures as a Markdown table: medians over the rounds, and the ratio to bubblewrap."""
    lines = [
        "| | " + " | ".join(contender.name for contender in contenders) + " |",
        "|---" * (len(contenders) + 1) + "|",
    ]
    for name, unit in UNITS.items():
        cells = []
        for contender in contenders:
            rounds = contender.rounds.get(name)
            if rounds is None:
                cells.append("–")
                continue
            ratio = statistics.median(
                own / other if name != "cycle" else other / own
                for own, other in zip(contenders[0].rounds[name], rounds, strict=True)
            )
            shown = "" if contender is contenders[0] else f" (Tumbler ×{ratio:.3g})"
            cells.append(f"{statistics.median(rounds):.4g}{shown}")
        lines.append(f"| {unit} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--docker", action="store_true", help="measure Docker too, with an engine of its own")
    parser.add_argument("--bubblewrap", default="{}", help="settings of the bubblewrap backend, as JSON")
    parser.add_argument(
        "--environments", type=Path, default=HERE.parent.parent / ".bench", help="where the peers are installed"
    )
    parser.add_argument("--json", type=Path, help="write all rounds to this file")
    arguments = parser.parse_args()
    with own_engine() if arguments.docker else contextlib.nullcontext():
        compete(arguments)


def compete(arguments: argparse.Namespace) -> None:
    """Run the rounds."""
    contenders = start_all(arguments)
    try:
        for _ in range(arguments.rounds):
            for name in UNITS:
                for contender in contenders:
                    if contender.name != "docker CLI" or name != "session":
                        contender.measure(name)
        print(table(contenders))
        if arguments.json:
            arguments.json.write_text(json.dumps({each.name: each.rounds for each in contenders}, indent=1))
    finally:
        for contender in contenders:
            contender.close()


if __name__ == "__main__":
    main()
