import shutil
import subprocess
from pathlib import Path

import pytest

from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings

PASSWD = "root:x:0:0:root:/root:/bin/sh\nalice:x:77:78::/home/alice:/bin/sh\n"


@pytest.fixture(scope="session")
def image(tmp_path_factory) -> Path:
    """A root file system of busybox and little else."""
    folder = tmp_path_factory.mktemp("image")
    for name in ("bin", "etc", "opt"):
        (folder / name).mkdir()
    shutil.copy("/bin/busybox", folder / "bin/busybox")
    for name in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
        if name != "busybox":
            (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/passwd").write_text(PASSWD)
    (folder / "etc/link").symlink_to("/etc/passwd")
    (folder / "opt/note").write_text("from the image\n")
    return folder


@pytest.fixture
async def make_backend(tmp_path):
    """Start backends with settings of one's own, all in one root."""
    made = []

    async def make(**settings):
        backend = BubblewrapBackend(BubblewrapSettings(**{"root": tmp_path / "sandboxes", "grace": 0.2, **settings}))
        made.append(backend)
        await backend.start()
        return backend

    yield make
    for backend in made:
        await backend.close()
    assert not list((tmp_path / "sandboxes").iterdir())
