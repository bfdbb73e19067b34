import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.errors import SandboxDied, SandboxUnavailable
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.ownership.owners import OwnerRecord, remove_tree
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings

HEADER = """
import asyncio, sys
from pathlib import Path
from tumbler.contracts.sandbox import SandboxSpec
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings
backend = BubblewrapBackend(BubblewrapSettings(root=Path(sys.argv[1])))
marker = sys.argv[2]
"""
BUSY_OWNER = (
    HEADER
    + """
async def busy():
    sandbox = await backend.create(SandboxSpec())
    session = await sandbox.session()
    await session.run(f"(setsid sh -c 'while :; do sleep {marker}; done' >/dev/null 2>&1 &)")
    await session.run("mkdir closed && touch closed/file && chmod 000 closed")
    asyncio.create_task(sandbox.exec(f"while :; do sleep {marker}; done", timeout=1000))

async def main():
    await backend.start()
    await asyncio.gather(*(busy() for _ in range(100)))
    await asyncio.sleep(0.2)
    print("busy", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""
)
STARTING_OWNER = (
    HEADER
    + """
async def start_and_start():
    sandbox = await backend.create(SandboxSpec())
    while True:
        await sandbox.exec(f"sleep {marker}", timeout=0.05)

async def main():
    await backend.start()
    print("busy", flush=True)
    await asyncio.gather(*(start_and_start() for _ in range(8)))

asyncio.run(main())
"""
)
CARELESS_OWNER = (
    HEADER
    + """
async def main():
    await backend.start()
    sandbox = await backend.create(SandboxSpec())
    session = await sandbox.session()
    print("busy", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""
)


def processes_with(marker):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if marker.encode() in words and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def words_of(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")


def start_owner(script, root, marker):
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(root), marker], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"busy\n"
    return owner


def cgroups_of(root):
    return [
        Path(folder) for record in root.glob("*/owner.json") for folder in json.loads(record.read_text())["cgroups"]
    ]


async def assert_none_left(marker):
    deadline = time.monotonic() + 20
    while processes_with(marker):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def assert_swept(root, folders):
    """Without any later start: the watchdog does it."""
    deadline = time.monotonic() + 60
    while list(root.iterdir()) or [folder for folder in folders if folder.exists()] or processes_with(str(root)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_after_sigkill_of_the_owner_nothing_survives(tmp_path):
    root, marker = tmp_path / "sandboxes", f"{1000 + os.getpid()}.0625"
    with start_owner(BUSY_OWNER, root, marker) as owner:
        assert len(processes_with(marker)) >= 200
        folders = cgroups_of(root)
        owner.send_signal(signal.SIGKILL)
    await assert_none_left(marker)
    await assert_swept(root, folders)


async def test_what_a_killed_owner_and_its_killed_watchdog_left_is_swept_by_the_next_start(tmp_path):
    root, marker = tmp_path / "sandboxes", f"{4000 + os.getpid()}.0625"
    with start_owner(BUSY_OWNER, root, marker) as owner:
        folders = cgroups_of(root)
        (watchdog,) = [pid for pid in processes_with(str(root)) if "tumbler-watchdog" in words_of(pid)]
        os.kill(watchdog, signal.SIGKILL)
        owner.send_signal(signal.SIGKILL)
    await assert_none_left(marker)
    assert list(root.iterdir())
    backend = BubblewrapBackend(BubblewrapSettings(root=root))
    await backend.start()
    assert backend.metrics.owners_reaped == 1
    assert len(list(root.iterdir())) == 1
    assert not [folder for folder in folders if folder.exists()]
    await backend.close()
    assert not list(root.iterdir())


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.11])
async def test_sigkill_in_the_middle_of_starts_leaves_nothing(tmp_path, delay):
    root, marker = tmp_path / "sandboxes", f"{2000 + os.getpid()}.03125"
    with start_owner(STARTING_OWNER, root, marker) as owner:
        await asyncio.sleep(delay)
        folders = cgroups_of(root)
        owner.send_signal(signal.SIGKILL)
    await assert_none_left(marker)
    await assert_swept(root, folders)


async def test_a_sandbox_deleted_in_the_middle_of_a_start_leaves_nothing_running(bubblewrap):
    marker = f"{3000 + os.getpid()}.015625"
    for step in range(16):
        sandbox = await bubblewrap.create(SandboxSpec())
        command = asyncio.ensure_future(sandbox.exec(["sleep", marker]))
        await asyncio.sleep(0.001 * step)
        async with asyncio.timeout(5):
            await sandbox.delete()
        with pytest.raises(SandboxDied):
            await command
        await assert_none_left(marker)


def test_an_owner_that_forgets_to_close_leaves_nothing(tmp_path):
    root = tmp_path / "sandboxes"
    with start_owner(CARELESS_OWNER, root, "1") as owner:
        folders = cgroups_of(root)
        owner.communicate()
        assert owner.wait(timeout=60) == 0
    assert not list(root.iterdir())
    assert not [folder for folder in folders if folder.exists()]


async def test_a_living_owner_is_left_alone(bubblewrap, tmp_path):
    sandbox = await bubblewrap.create(SandboxSpec())
    other = BubblewrapBackend(BubblewrapSettings(root=tmp_path / "sandboxes"))
    await other.start()
    assert other.metrics.owners_reaped == 0
    await other.close()
    assert await sandbox.alive()


async def test_closing_deletes_every_sandbox(tmp_path):
    backend = BubblewrapBackend(BubblewrapSettings(root=tmp_path / "sandboxes"))
    await backend.start()
    sandboxes = [await backend.create(SandboxSpec()) for _ in range(3)]
    session = await sandboxes[0].session()
    folders = cgroups_of(tmp_path / "sandboxes")
    await backend.close()
    await backend.close()
    assert not list((tmp_path / "sandboxes").iterdir())
    assert not [folder for folder in folders if folder.exists()]
    with pytest.raises(SandboxDied):
        await session.run("true")
    with pytest.raises(SandboxUnavailable, match="start"):
        await backend.create(SandboxSpec())


def test_an_owner_is_dead_when_its_pid_belongs_to_another_process():
    own = OwnerRecord.of_this_process(())
    assert not own.is_dead()
    assert replace(own, start_time=own.start_time + 1).is_dead()
    assert replace(own, pid=2**22 + 1).is_dead()
    assert replace(own, boot_id="another boot").is_dead()
    assert not replace(own, pid=2**22 + 1, pid_namespace="pid:[1]").is_dead()


def test_a_deep_and_closed_folder_is_removed_and_links_are_not_followed(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("kept")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(tmp_path / "kept")
    closed = tree / "closed"
    closed.mkdir()
    (closed / "file").touch()
    closed.chmod(0)
    here = os.open(tree, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    remove_tree(tree)
    assert not tree.exists()
    assert (tmp_path / "kept/file").read_text() == "kept"


async def test_a_missing_bwrap_is_said_with_the_command_that_installs_it(tmp_path):
    backend = BubblewrapBackend(BubblewrapSettings(root=tmp_path / "sandboxes", bwrap="no-such-bwrap"))
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        await backend.start()


async def test_a_bwrap_that_is_not_allowed_to_work_is_said_with_its_words(tmp_path):
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    backend = BubblewrapBackend(BubblewrapSettings(root=tmp_path / "sandboxes", bwrap=str(program)))
    with pytest.raises(SandboxUnavailable, match=r"No permissions to create new namespace.*To mend it"):
        await backend.start()
    assert not list((tmp_path / "sandboxes").iterdir())


async def test_a_root_folder_that_others_can_write_is_refused(tmp_path):
    root = tmp_path / "sandboxes"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(SandboxUnavailable, match="written by others"):
        await BubblewrapBackend(BubblewrapSettings(root=root)).start()
