"""Start the local server of Modal's protocol, and point Modal's client at it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_END_S = 30


@contextmanager
def modal_server(folder: Path, user: str = "") -> Iterator[subprocess.Popen[str]]:
    """Serve until the block ends, with Modal's client configured for it; `user` runs commands, such as `root`."""
    folder.mkdir(parents=True, exist_ok=True)
    search = os.pathsep.join([str(_HERE), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "modal_server", str(folder), user],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": search},
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MODAL_SERVER_URL", f"http://127.0.0.1:{port}")
            patch.setenv("MODAL_TOKEN_ID", "ak-test")
            patch.setenv("MODAL_TOKEN_SECRET", "as-test")
            yield process
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(_END_S)
        finally:
            process.kill()
            process.wait()
