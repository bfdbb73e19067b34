"""Attacks on the host's side of a sandbox, and on what all sandboxes share."""

import asyncio
import gc
import os
import resource
import shutil
import stat
import subprocess
import uuid
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import Mount, NetworkPolicy, Resources, SandboxSpec
from tumbler.errors import PolicyDenied, QuotaExceeded, SandboxStartFailed
from tumbler_backends.sandbox.bubblewrap.filesystem.copying import copy_tree

BOUND_S = 30
HOSTILE_SHELL = r"""
#include <unistd.h>
static char flood[1 << 16];
int main(void) {
    write(0, "ready\n", 6);
    read(0, flood, sizeof flood);
    close(1);
    close(2);
    for (;;) if (write(0, flood, sizeof flood) < 0) pause();
}
"""


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def few_descriptors():
    """Leave this process 200 descriptors more than it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 200, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# the way out through the host's side


async def test_a_path_with_missing_folders_and_dots_stays_below_the_root(box):
    name = f"tumbler-{uuid.uuid4().hex}"
    for number, use in enumerate((lambda path: box.write(path, b"in"), box.mkdir)):
        await use(f"/tmp/none-{number}/{'../' * 30}tmp/{name}-{number}")
        assert not Path(f"/tmp/{name}-{number}").exists()
        assert (await box.stat(f"/tmp/{name}-{number}")).kind == ("file", "directory")[number]
    await box.move(f"/tmp/{name}-0", f"/tmp/none-2/{'../' * 30}tmp/{name}-2")
    assert not Path(f"/tmp/{name}-2").exists()
    assert await box.read(f"/tmp/{name}-2") == b"in"


async def test_folders_that_bwrap_mounts_cannot_be_exchanged_by_way_of_a_link(box):
    await box.exec("ln -s / here; ln -s / evil; ln -s /home up; touch mine")
    for attempt in (
        box.remove("here/tmp", recursive=True),
        box.move("here/tmp", "/work/tmp"),
        box.move("evil", "here/tmp"),
        box.move("evil", "here/new"),
        box.remove("up/sandbox", recursive=True),
        box.remove("here/home", recursive=True),
        box.write("here/new", b""),
        box.mkdir("here/new"),
    ):
        with pytest.raises(PolicyDenied, match="hold"):
            await attempt
    await asyncio.sleep(0.5)  # a process that was started ahead has the old folders
    assert (await box.exec("ls /tmp")).stdout == b""


async def test_a_workdir_above_the_home_folder_leaves_nothing_to_exchange(bubblewrap):
    sandbox = await bubblewrap.create(SandboxSpec(workdir="/home"))
    await sandbox.write("note", b"in")
    result = await sandbox.exec("cat note; rmdir sandbox && ln -s / sandbox")
    assert (result.stdout, result.exit_code) == (b"in", 0)
    await asyncio.sleep(0.5)
    assert (await sandbox.exec("ls sandbox/root", check=False)).exit_code != 0


@pytest.mark.parametrize("target", ["/elsewhere", "/tmp/inside"])
async def test_a_mount_source_that_has_become_a_link_is_not_followed(make_backend, tmp_path, target):
    share, secret = tmp_path / "share", tmp_path / "secret"
    (share / "part").mkdir(parents=True)
    secret.mkdir()
    (secret / "flag").write_text("flag")
    backend = await make_backend(mountable=(share,))
    mounts = (
        Mount(source=str(share), target="/share", writable=True),
        Mount(source=str(share / "part"), target=target),
    )
    sandbox = await backend.create(SandboxSpec(mounts=mounts))
    await sandbox.exec("cd /share && mv part old && ln -s ../secret part", check=True)
    async with asyncio.timeout(BOUND_S):
        while sandbox.box.storage.room.namespaces is not None:
            await asyncio.sleep(0.05)
    with pytest.raises(SandboxStartFailed, match="symbolic"):
        await sandbox.exec(f"cat {target}/flag")


@pytest.mark.parametrize("kind", ["plain", "disk", "image"])
async def test_devices_of_the_host_keep_their_permissions(make_backend, image, kind):
    specs = {
        "plain": SandboxSpec(),
        "disk": SandboxSpec(resources=Resources(disk_bytes=1 << 20)),
        "image": SandboxSpec(image=str(image)),
    }
    backend = await make_backend()
    sandbox = await backend.create(specs[kind])
    for device in ("null", "zero", "full", "random", "urandom", "tty"):
        mode = stat.S_IMODE(Path("/dev", device).stat().st_mode)
        assert b"Read-only" in (await sandbox.exec(f"chmod {mode:o} /dev/{device}")).stderr
    assert (await sandbox.exec("echo x >/dev/null && head -c 4 /dev/zero | wc -c")).stdout.strip() == b"4"
    assert b"/dev" not in (await sandbox.exec("readlink /proc/1/fd/0 /proc/1/fd/1 /proc/1/fd/2")).stdout


# what sandboxes share with the host


async def test_a_lease_cannot_keep_the_host_from_opening_its_own_files(box):
    code = "import fcntl; fcntl.fcntl(open('/usr/bin/env'), fcntl.F_SETLEASE, fcntl.F_RDLCK)"
    assert b"PermissionError" in (await box.exec(["python3", "-I", "-c", code])).stderr


async def test_no_core_handler_of_the_host_can_be_started(box):
    code = "from resource import *; setrlimit(RLIMIT_CORE, (0, 0)); print(getrlimit(RLIMIT_CORE))"
    assert (await box.exec(["python3", "-I", "-c", code])).stdout == b"(1, 1)\n"


async def test_tables_of_the_kernel_for_root_alone_are_hidden(box):
    for name in ("kpagecount", "kpageflags", "slabinfo", "vmallocinfo", "kmsg"):
        if Path("/proc", name).exists():
            assert (await box.exec(f"head -c 1 /proc/{name}")).stdout == b""


# the owner's memory and descriptors


async def test_background_children_cannot_use_up_the_owners_descriptors(box):
    session = await box.session()
    await session.run("true")
    before = descriptors()
    for _ in range(60):
        await session.run("sleep 1000 &")
    assert descriptors() < before + 80
    assert (await session.run("echo on")).stdout == b"on\n"


@pytest.fixture
def hostile(image, tmp_path):
    """An image whose shell closes what tells of its life, and talks without end."""
    folder = tmp_path / "hostile"
    shutil.copytree(image, folder, symlinks=True)
    (folder / "bin/sh").unlink()
    source = tmp_path / "shell.c"
    source.write_text(HOSTILE_SHELL)
    subprocess.run(["gcc", "-static", "-w", "-o", str(folder / "bin/sh"), str(source)], check=True)
    return folder


async def test_a_hostile_shell_of_an_image_neither_fills_memory_nor_stops_a_deletion(make_backend, hostile):
    backend = await make_backend()
    sandbox = await backend.create(SandboxSpec(image=str(hostile)))
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_kilobytes()
    assert (await sandbox.exec("true", timeout=1)).timed_out
    process = await sandbox.spawn("true")
    assert _peak_kilobytes() < before + (50 << 10)
    async with asyncio.timeout(BOUND_S):
        await sandbox.delete()
    assert process.record.ended


async def test_forged_answers_without_end_garble_nothing(box):
    session = await box.session()
    forging = (
        "for n in {10..30}; do { head -c 3000000 /dev/zero >&$n; } 2>/dev/null; done; printf '%05000d' 0; echo done"
    )
    result = await session.run(forging)
    assert result.stdout.endswith(b"done\n")
    digits = 'for n in {10..30}; do { printf "1\\0%05000d\\0\\0\\0" 0 >&$n; } 2>/dev/null; done; echo done'
    assert (await session.run(digits)).stdout == b"done\n"
    assert (await session.run("echo next")).stdout == b"next\n"


async def test_a_watch_of_many_folders_ends_before_the_descriptors_do(box, few_descriptors):
    await box.exec("mkdir -p many; cd many; for n in $(seq 300); do mkdir $n; done")
    with pytest.raises(QuotaExceeded, match="folders"):
        await anext(aiter(box.watch("many", recursive=True)))
    await box.mkdir("later")
    events = aiter(box.watch("later", recursive=True))
    first = asyncio.create_task(anext(events))
    await asyncio.sleep(0.1)
    await box.exec("mv many later/many")
    await first
    with pytest.raises(QuotaExceeded, match="folders"):
        async with asyncio.timeout(BOUND_S):
            async for _ in events:
                pass


async def test_a_deep_folder_is_removed_with_few_descriptors(box, few_descriptors):
    code = "import os\nfor _ in range(1500):\n os.mkdir('d')\n os.chdir('d')\n open('f', 'w')"
    await box.exec(["python3", "-I", "-c", code], check=True)
    await box.remove("d", recursive=True)
    assert not await box.list()


async def test_links_into_a_removed_folder_are_not_followed(box):
    await box.exec("mkdir keep gone; touch keep/file; ln -s ../keep gone/link; ln keep/file gone/hard")
    await box.remove("gone", recursive=True)
    assert [entry.name for entry in await box.list("keep")] == ["file"]


def test_a_copy_of_many_linked_files_takes_few_descriptors(tmp_path, few_descriptors):
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    for number in range(500):
        (source / f"{number}").write_text(str(number))
        os.link(source / f"{number}", source / f"{number}-too")
    opened = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in (source, target)]
    copy_tree(*opened)
    for descriptor in opened:
        os.close(descriptor)
    assert names_in(target) == names_in(source)
    assert (target / "7").samefile(target / "7-too")
    assert (target / "7").stat().st_nlink == 2


# cancelled calls


async def test_cancelled_calls_leave_nothing(make_backend, tmp_path):
    backend = await make_backend(cache=tmp_path / "cache")
    sandbox = await backend.create(SandboxSpec(resources=Resources(disk_bytes=1 << 23)))
    await sandbox.write("large", bytes(1 << 20))

    async def dialogue():
        session = await sandbox.session()
        try:
            await session.run("sleep 0.01")
        finally:
            await session.close()

    calls = (
        lambda: sandbox.read("large"),
        lambda: sandbox.write("other", bytes(1 << 20)),
        lambda: sandbox.exec("sleep 0.01"),
        dialogue,
        lambda: sandbox.set_network(NetworkPolicy(mode="allowlist", hosts=("a.test",))),
        sandbox.snapshot,
        lambda: sandbox.fork(2),
        _pausing(sandbox),
        lambda: backend.create(SandboxSpec(network=NetworkPolicy(mode="public"))),
    )
    before = None
    for turn in range(12):
        for call in calls:
            task = asyncio.ensure_future(call())
            await asyncio.sleep(0.003 * turn)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await _forget_what_was_made(backend, sandbox)
        if before is None:  # the sandbox itself holds its memory, its network and its gateway from now on
            await sandbox.set_network(NetworkPolicy(mode="allowlist", hosts=("a.test",)))
            before = await _settled(descriptors)
    assert await _settled(descriptors) <= before + 2
    await sandbox.delete()
    host = backend._host
    assert not [group for folder in host.cgroups for group in folder.iterdir() if group.is_dir()]
    assert [entry.name for entry in host.folder.iterdir() if entry.is_dir()] == ["etc"]
    templates = tmp_path / "cache/templates"
    assert not templates.exists() or not list(templates.iterdir())


def _pausing(sandbox):
    async def pause():
        try:
            await sandbox.pause()
        finally:
            await sandbox.resume()

    return pause


async def _forget_what_was_made(backend, sandbox):
    """Remove what a call that was not cut short has made."""
    for other in tuple(backend.living):
        if other is not sandbox:
            await other.delete()
    for template in await backend.templates():
        await backend.delete_template(template.id)


async def _settled(measure):
    """Return the smallest value of some seconds: what is killed is gone a moment later."""
    values = []
    for _ in range(30):
        gc.collect()
        values.append(measure())
        await asyncio.sleep(0.1)
    return min(values)


def _peak_kilobytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
