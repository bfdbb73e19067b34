"""Remove an owner's containers when the owner is gone: a program of its own, in need of nothing but Python.

Its standard input is a pipe that the owner holds: at the end of input it begins. An owner without a name loses its
containers at once. Those of an owner with a name are kept for whoever takes the name, each until its time is over.
"""

import argparse
import contextlib
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import time
import urllib.parse
from pathlib import Path
from typing import Any, Final

__all__ = ["main"]

_REQUEST_S: Final = 30.0
_RETRY_S: Final = 1.0
_LOOK_S: Final = 2.0
_LOOKS_TAKEN: Final = 5
"""Looks in a row at which the owner's name is taken until another process has it. A dying owner closes its pipe to us
before it lets go of its name, so that a single look may find the owner itself."""
_ATTEMPTS: Final = 600
"""How often an engine that is down is asked again."""


def main() -> None:
    """Wait for the owner's end, and clean up after it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", required=True)
    parser.add_argument("--label", required=True)
    parser.add_argument("--owner", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--named", action="store_true")
    arguments = parser.parse_args()
    # What ends the owner's terminal or process group ends the owner alone.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1024):
        pass
    engine = _Engine(arguments.engine)
    looks_taken = 0
    for _ in range(_ATTEMPTS):
        looks_taken = looks_taken + 1 if arguments.named and _taken(arguments.folder) else 0
        if looks_taken == _LOOKS_TAKEN:
            return
        if looks_taken:
            time.sleep(_LOOK_S)
            continue
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            if not _clean_up(engine, arguments.label, arguments.owner, arguments.folder, named=arguments.named):
                return
            time.sleep(_LOOK_S)
            continue
        time.sleep(_RETRY_S)


def _clean_up(engine: "_Engine", label: str, owner: str, folder: Path, *, named: bool) -> bool:
    """Remove what may be removed; return whether anything is left to wait for."""
    left = left_alone = False
    for container in engine.containers(f"{label}={owner}"):
        labels: dict[str, str] = container["Labels"]
        written = _written(folder / labels.get(f"{label}.id", "-"))
        if written.get("owner", owner) != owner:  # another process has taken it over
            left_alone = True
            continue
        if named and time.time() < float(written.get("expires", labels.get(f"{label}.expires", 0))):
            left = True
            continue
        engine.remove(container["Id"])
        shutil.rmtree(folder / labels.get(f"{label}.id", "-"), ignore_errors=True)
    if not left and not left_alone:
        shutil.rmtree(folder, ignore_errors=True)
    return left


def _written(folder: Path) -> "dict[str, Any]":
    """Return what owners have written down about a sandbox since it was made."""
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads((folder / "record.json").read_text()))
    return {}


def _taken(folder: Path) -> bool:
    """Tell whether a living process has taken the owner's name."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


class _Engine:
    """As much of the engine's API as is needed here."""

    def __init__(self, address: str) -> None:
        self._address = address

    def containers(self, label: str) -> "list[dict[str, Any]]":
        """Return the containers with a label."""
        filters = urllib.parse.quote(json.dumps({"label": [label]}))
        return list(json.loads(self._ask("GET", f"/containers/json?all=1&filters={filters}")))

    def remove(self, container: str) -> None:
        """Remove a container; one that is gone is no matter."""
        self._ask("DELETE", f"/containers/{container}?force=1&v=1")

    def _ask(self, method: str, path: str) -> bytes:
        parts = urllib.parse.urlsplit(self._address)
        connection = http.client.HTTPConnection(parts.hostname or "localhost", parts.port or 2375, timeout=_REQUEST_S)
        if parts.scheme == "unix":
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(_REQUEST_S)
            connection.sock.connect(parts.path)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status >= 500 or (method == "GET" and response.status >= 400):
            raise OSError(f"the engine answers {response.status}: {body[:200]!r}")
        return body


if __name__ == "__main__":
    main()
