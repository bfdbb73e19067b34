import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_TOOLS = Path(__file__).parents[4] / "tools"


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[str]:
    """Start an engine of our own, unless DOCKER_TEST_HOST names one; return its address."""
    if given := os.environ.get("DOCKER_TEST_HOST"):
        yield given
        return
    folder = tempfile.mkdtemp(prefix="tumbler-engine-")  # sockets need a short path
    said = subprocess.run(
        ["sh", _TOOLS / "start-docker-engine.sh", folder], check=True, stdout=subprocess.PIPE, text=True, timeout=280
    )
    yield said.stdout.strip()
    subprocess.run(["sh", _TOOLS / "start-docker-engine.sh", "--stop", folder], check=True, timeout=60)


@pytest.fixture(scope="session")
def docker_image() -> str:
    """Return the tar that sandboxes of the tests are made from."""
    said = subprocess.run(
        ["sh", _TOOLS / "make-test-image.sh"], check=True, stdout=subprocess.PIPE, text=True, timeout=280
    )
    return said.stdout.strip()
