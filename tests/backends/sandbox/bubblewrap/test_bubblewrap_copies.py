import asyncio
import errno
import os
import signal
import subprocess
import sys

import pytest

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.contracts.sandbox_control import TEMPLATE_LIFETIME
from tumbler.errors import SandboxNotFound
from tumbler_backends.sandbox.bubblewrap.filesystem.copying import MAX_DEPTH, copy_tree
from tumbler_backends.sandbox.posix.opening import opened

OWNED = {TEMPLATE_LIFETIME: "owner"}
OWNER = """
import asyncio, sys
from pathlib import Path
from tumbler.contracts.sandbox import SandboxSpec
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.filesystem import templates
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings

async def main():
    backend = BubblewrapBackend(BubblewrapSettings(root=Path(sys.argv[1])))
    await backend.start()
    for labels in ({}, {sys.argv[2]: "owner"}):
        box = await backend.create(SandboxSpec(labels={"made": "by the dead", **labels}))
        await box.snapshot()
    copy = templates.copy_tree
    def stop(*arguments):
        copy(*arguments)
        print("ready", flush=True)
        Path("/dev/stdin").read_bytes()
    templates.copy_tree = stop
    await box.snapshot()

asyncio.run(main())
"""
"""Is killed while it takes a snapshot, and has two by then, of which one is its own."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY


def copied(source, target):
    target.mkdir()
    with opened(os.open(source, FOLDER)) as reading, opened(os.open(target, FOLDER)) as writing:
        return copy_tree(reading, writing)


def test_a_copy_keeps_content_modes_times_links_holes_and_pipes(tmp_path):
    source = tmp_path / "source"
    (source / "closed/below").mkdir(parents=True)
    (source / "closed/below/file").write_bytes(b"content")
    (source / "closed").chmod(0o500)
    (source / "link").symlink_to("/etc/passwd")
    (source / "one").write_bytes(b"shared")
    os.link(source / "one", source / "two")
    os.mkfifo(source / "pipe")
    with (source / "holes").open("wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
    os.utime(source / "one", ns=(1, 10**18))
    size = copied(source, tmp_path / "copy")
    copy = tmp_path / "copy"
    assert (copy / "closed/below/file").read_bytes() == b"content"
    assert (copy / "closed").stat().st_mode & 0o777 == 0o500
    assert (copy / "link").readlink().as_posix() == "/etc/passwd"
    assert (copy / "one").samefile(copy / "two")
    assert (copy / "one").stat().st_mtime_ns == 10**18
    assert (copy / "holes").stat().st_size == (50 << 20) + 3
    assert (copy / "holes").stat().st_blocks < 100
    assert size < 1 << 20


def test_a_folder_that_is_too_deep_is_refused(tmp_path):
    here = os.open(tmp_path, FOLDER)
    os.mkdir("source", dir_fd=here)
    for name in ("source", *["d"] * (MAX_DEPTH + 2)):
        below = os.open(name, FOLDER, dir_fd=here)
        os.mkdir("d", dir_fd=below)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(OSError, match="deeper") as caught:
        copied(tmp_path / "source", tmp_path / "copy")
    assert caught.value.errno == errno.ENAMETOOLONG


async def test_a_fork_has_the_files_and_goes_its_own_way(make_backend, image):
    backend = await make_backend()
    for place in (None, str(image)):
        box = await backend.create(SandboxSpec(image=place, name="source", labels={"run": "r"}, env={"A": "b"}))
        await box.exec("mkdir -p d; echo one >d/file; ln d/file hard; chmod 700 d")
        forks = await box.fork(3)
        assert len({fork.id for fork in (box, *forks)}) == 4
        await asyncio.gather(*(fork.exec(f"echo {fork.id} >>d/file") for fork in forks))
        for fork in forks:
            assert (await fork.exec("cat hard; echo $A")).stdout.decode() == f"one\n{fork.id}\nb\n"
            assert fork.spec.labels == {"run": "r"}
        assert await box.read("d/file") == b"one\n"
        await box.delete()
    assert await backend.templates() == []


async def test_what_an_image_sandbox_removed_stays_removed_in_a_template(make_backend, image):
    backend = await make_backend()
    box = await backend.create(SandboxSpec(image=str(image), labels={"run": "r"}))
    await box.exec("rm /opt/note; rm -r /bin/vi; rm -r /etc; mkdir /etc; echo new >/etc/new", check=True)
    template = await box.snapshot()
    await box.delete()
    assert (template.source, template.labels) == (box.id, {"run": "r"})
    assert [one.id for one in await backend.templates()] == [template.id]
    made = await backend.create(SandboxSpec(template=template.id))
    assert (await made.exec("ls /opt /etc; ls /bin/vi")).stdout.split() == b"/etc: hosts new resolv.conf /opt:".split()
    await backend.delete_template(template.id)
    assert (await made.exec("cat /etc/new")).stdout == b"new\n"
    for call in (backend.delete_template(template.id), backend.create(SandboxSpec(template=template.id))):
        with pytest.raises(SandboxNotFound, match=template.id):
            await call


async def test_templates_outlive_their_owner(make_backend):
    backend = await make_backend()
    box = await backend.create(SandboxSpec())
    await box.write("file", b"kept")
    template = await box.snapshot()
    await backend.close()
    later = await make_backend()
    made = await later.create(SandboxSpec(template=template.id))
    assert await made.read("file") == b"kept"
    await later.delete_template(template.id)


def killed_owner(root):
    words = [sys.executable, "-c", OWNER, str(root), TEMPLATE_LIFETIME]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout.readline() == b"ready\n"
        owner.send_signal(signal.SIGKILL)


async def test_an_owners_own_templates_and_half_made_ones_go_with_the_next_start_after_its_death(
    make_backend, tmp_path
):
    killed_owner(tmp_path / "sandboxes")
    folder = tmp_path / "templates"
    assert len(list(folder.iterdir())) == 3
    (folder / ".gone-template-0-0").mkdir()
    backend = await make_backend()
    (left,) = await backend.templates()
    assert left.labels == {"made": "by the dead"}
    assert [each.name for each in folder.iterdir()] == [left.id]
    copy = await backend.create(SandboxSpec(template=left.id))
    assert await copy.alive()


async def test_a_living_owners_own_templates_stay(make_backend):
    first = await make_backend()
    sandbox = await first.create(SandboxSpec(labels=OWNED))
    template = await sandbox.snapshot()
    second = await make_backend()
    await second.reconcile()
    assert [each.id for each in await second.templates()] == [template.id]


async def test_a_template_that_cannot_be_copied_leaves_nothing(make_backend, tmp_path):
    backend = await make_backend()
    box = await backend.create(SandboxSpec())
    (tmp_path / "templates").write_text("in the way")
    with pytest.raises(Exception, match="could not be copied") as failed:
        await box.snapshot()
    assert failed.value.phase == "snapshot"
