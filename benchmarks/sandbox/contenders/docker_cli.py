"""The Docker command line as a contender: `docker_cli.py IMAGE`. It has no session; `DOCKER_HOST` names the engine."""

import subprocess
import sys
import time

from worker import MEBIBYTE, serve


class DockerCommandLine:
    """The measures, each returning seconds."""

    def __init__(self) -> None:
        """Start the container that all measures but `cycle` share."""
        self._container = self._start()

    def cycle(self, count: int) -> float:
        """A container, its first command, and its end."""
        began = time.perf_counter()
        for _ in range(count):
            container = self._start()
            _docker("exec", container, "true")
            _docker("rm", "-f", container)
        return time.perf_counter() - began

    def exec(self, count: int) -> float:
        """Commands one after another."""
        began = time.perf_counter()
        for _ in range(count):
            _docker("exec", self._container, "true")
        return time.perf_counter() - began

    def files(self, count: int) -> float:
        """A MiB of text written and read back, so many times."""
        content = b"x" * MEBIBYTE
        began = time.perf_counter()
        for _ in range(count):
            _docker("exec", "-i", self._container, "sh", "-c", "cat >/tmp/file", given=content)
            assert _docker("exec", self._container, "cat", "/tmp/file") == content
        return time.perf_counter() - began

    def close(self) -> None:
        """Remove the container."""
        _docker("rm", "-f", self._container)

    def _start(self) -> str:
        words = ("run", "-d", "--rm", "--network", "none", sys.argv[1], "sleep", "3600")
        return _docker(*words).decode().strip()


def _docker(*words: str, given: bytes | None = None) -> bytes:
    done = subprocess.run(["docker", *words], check=True, capture_output=True, input=given, timeout=120)
    return done.stdout


if __name__ == "__main__":
    serve(DockerCommandLine)
