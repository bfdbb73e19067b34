import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import Resources, SandboxSpec
from tumbler.errors import CapabilityError, QuotaExceeded, SandboxDied, SandboxNotFound, SandboxUnavailable
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.ownership import owners
from tumbler_backends.sandbox.bubblewrap.ownership.records import Record, read_records
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings

OWNER = """
import asyncio, sys
from pathlib import Path
from tumbler.contracts.sandbox import SandboxSpec, Resources
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings

async def main():
    backend = BubblewrapBackend(BubblewrapSettings(root=Path(sys.argv[1]), owner="service"))
    await backend.start()
    for ttl in (3, 3600):
        box = await backend.create(SandboxSpec(name=f"for-{ttl}", ttl=ttl, files={"file": b"kept"}, env={"A": "b"}))
        asyncio.create_task(box.exec("sleep " + sys.argv[2], timeout=1000))
    if sys.argv[3:]:
        image = await backend.create(SandboxSpec(name="image", image=sys.argv[3]))
        await image.exec("echo changed >/opt/note")
        await backend.create(SandboxSpec(name="memory", resources=Resources(disk_bytes=1 << 20)))
    await asyncio.sleep(0.3)
    print("ready", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


def killed_owner(root, marker, *arguments):
    words = [sys.executable, "-c", OWNER, str(root), marker, *arguments]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as owner:
        assert owner.stdout.readline() == b"ready\n"
        owner.send_signal(signal.SIGKILL)


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


async def until(holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_the_next_start_under_a_name_gets_the_sandboxes_back(make_backend, tmp_path, image):
    root, marker = tmp_path / "sandboxes", f"{5000 + os.getpid()}.5"
    killed_owner(root, marker, str(image))
    backend = await make_backend(owner="service")
    assert backend.capabilities.attach
    assert processes_with(marker) == []
    names = {info.name for info in await backend.list()}
    assert names in ({"for-3", "for-3600", "image"}, {"for-3600", "image"})
    box = await backend.attach("for-3600")
    assert (await box.exec("cat file; echo $A")).stdout == b"keptb\n"
    assert (await (await backend.get("image")).exec("cat /opt/note")).stdout == b"changed\n"
    with pytest.raises(SandboxNotFound):
        await backend.get("memory")
    await until(lambda: len(backend.living) == 2)  # the short one's time was over meanwhile
    with pytest.raises(SandboxUnavailable, match="the owner 'service' lives"):
        await make_backend(owner="service")
    await backend.close()
    assert list(root.iterdir()) == []


async def test_without_a_next_start_each_sandbox_ends_at_its_time(tmp_path):
    root, marker = tmp_path / "sandboxes", f"{6000 + os.getpid()}.5"
    killed_owner(root, marker)
    await until(lambda: not [pid for pid in processes_with(marker) if f"sleep {marker}".encode() in words_of(pid)])
    await until(lambda: [record.spec.name for record in read_records(root / "service")] == ["for-3600"])
    (record,) = read_records(root / "service")
    Record(**{**vars(record), "expires": 0.0}).save(root / "service" / record.id)
    for pid in processes_with(str(root)):  # the watchdog sleeps; another one does its work
        os.kill(pid, signal.SIGKILL)
    from tumbler_backends.sandbox.bubblewrap.ownership.reaping import reap

    assert reap(root).sandboxes == 1
    assert list(root.iterdir()) == []


def words_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return b""


async def test_a_clean_end_dismisses_the_watchdog(make_backend, tmp_path):
    backend = await make_backend()
    assert len(processes_with(str(tmp_path / "sandboxes"))) == 1
    await backend.close()
    assert processes_with(str(tmp_path / "sandboxes")) == []


async def test_sandboxes_of_other_owners_are_listed_but_not_got(make_backend):
    one, two = await make_backend(), await make_backend(owner="two")
    box = await two.create(SandboxSpec(name="theirs", labels={"a": "b"}))
    assert await one.list() == []
    (info,) = await one.list(mine=False, labels={"a": "b"})
    assert (info.id, info.name, info.owner, info.backend) == (box.id, "theirs", "two", "bubblewrap")
    for call in (one.get(box.id), one.get("theirs")):
        with pytest.raises(SandboxNotFound):
            await call
    with pytest.raises(CapabilityError, match="set `owner`"):
        await one.attach(box.id)


async def test_a_limit_on_sandboxes_is_kept(make_backend):
    backend = await make_backend(max_sandboxes=2)
    first, _ = await backend.create(SandboxSpec()), await backend.create(SandboxSpec())
    with pytest.raises(QuotaExceeded, match="max_sandboxes"):
        await backend.create(SandboxSpec())
    await first.delete()
    await backend.create(SandboxSpec())


async def test_a_record_says_all_that_a_spec_says(make_backend, tmp_path):
    backend = await make_backend(mountable=(tmp_path,))
    from tumbler.contracts.sandbox import Healthcheck, Mount, NetworkPolicy, Resources

    spec = SandboxSpec(
        user="root",
        workdir="/home/sandbox/deep",
        env={"A": "b"},
        resources=Resources(memory_bytes=1 << 28, processes=50),
        network=NetworkPolicy(mode="allowlist", hosts=("a.test",), cidrs=("203.0.113.0/24",)),
        labels={"run": "r"},
        name="named",
        idempotency_key="key",
        mounts=(Mount(source=str(tmp_path), target="/data", writable=True),),
        healthcheck=Healthcheck(command=("true",)),
        idle_ttl=100.0,
    )
    box = await backend.create(spec)
    record = Record.load(box.box.layout.folder)
    assert record is not None
    assert record.spec == spec == box.spec
    await box.extend(5000)
    assert abs(Record.load(box.box.layout.folder).expires - time.time() - 5000) < 60


async def test_many_sandboxes_come_and_go_and_hold_nothing(make_backend, tmp_path):
    backend = await make_backend()
    before = len(list(Path("/proc/self/fd").iterdir()))
    boxes = [await backend.create(SandboxSpec(files={"n": str(n).encode()})) for n in range(1000)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert len(await backend.list()) == 1000
    for n in (0, 499, 999):
        assert (await boxes[n].exec("cat n")).stdout == str(n).encode()
    await asyncio.gather(*(box.delete() for box in boxes))
    assert await backend.list() == []
    with pytest.raises(SandboxDied) as died:
        await boxes[0].read("n")
    assert died.value.cause == "deleted"


async def test_a_user_without_rights_has_images_disks_and_forks_too(tmp_path, image):
    script = """
import asyncio, os, sys
from pathlib import Path
from tumbler.contracts.sandbox import Resources, SandboxSpec
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings
assert os.geteuid() == 1000

async def main():
    backend = BubblewrapBackend(BubblewrapSettings(root=Path(sys.argv[1])))
    await backend.start()
    for disk in (None, 1 << 20):
        spec = SandboxSpec(image=sys.argv[2], resources=Resources(disk_bytes=disk), files={"file": b"spec"})
        box = await backend.create(spec)
        await box.exec("rm /opt/note; echo new >/etc/new; cat file", check=True)
        (fork,) = await box.fork()
        result = await fork.exec("cat file /etc/new; ls /opt")
        assert result.stdout == b"specnew\\n", result
        assert await fork.read("/etc/new") == b"new\\n"
    await backend.close()

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--user", "--map-user=1000", "--map-group=1000", sys.executable, "-c", script),
        *(str(tmp_path / "sandboxes"), str(image)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert list((tmp_path / "sandboxes").iterdir()) == []


async def test_a_full_disk_is_a_typed_error_that_names_the_place_and_leaves_nothing(tmp_path):
    script = """
import asyncio, ctypes, sys
from pathlib import Path
from tumbler.contracts.sandbox import SandboxSpec
from tumbler.errors import QuotaExceeded
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings
libc = ctypes.CDLL(None, use_errno=True)
root = Path(sys.argv[1])
if libc.unshare(0x20000) or libc.mount(b"none", b"/", None, 0x44000, None):
    raise OSError(ctypes.get_errno(), "unshare")
if libc.mount(b"tmpfs", str(root).encode(), b"tmpfs", 0, b"size=1m"):
    raise OSError(ctypes.get_errno(), "mount")

async def main():
    backend = BubblewrapBackend(BubblewrapSettings(root=root / "sandboxes"))
    await backend.start()
    box = await backend.create(SandboxSpec())
    for attempt in (backend.create(SandboxSpec(files={"large": bytes(2 << 20)})), box.write("large", bytes(2 << 20))):
        try:
            await attempt
        except QuotaExceeded as error:
            assert str(root) in str(error), error
        else:
            raise AssertionError("no error")
    (root / "filler").write_bytes(bytes((1 << 20) - 400_000))
    try:
        while True:
            await backend.create(SandboxSpec(files={"f": bytes(10_000)}))
    except QuotaExceeded as error:
        assert str(root) in str(error), error
    folders = [path for path in (root / "sandboxes").glob("*/*") if (path / "control").is_dir()]
    assert len(folders) == len(await backend.list())
    await backend.close()
    assert not list((root / "sandboxes").iterdir())

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path), stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_what_a_named_owner_detaches_from_is_there_at_the_next_start(make_backend, tmp_path, image):
    first, marker = await make_backend(owner="me"), f"{6000 + os.getpid()}.5"
    assert first.detachable
    made = await first.create(SandboxSpec(name="kept", image=str(image), ttl=3600))
    await made.exec("echo changed >/opt/note")
    await first.create(SandboxSpec(name="memory", resources=Resources(disk_bytes=1 << 20)))
    await made.spawn(["sleep", marker])
    await first.detach()
    assert processes_with(marker) == []
    with pytest.raises(SandboxDied, match="left it"):
        await made.exec("true")
    second = await make_backend(owner="me")
    (info,) = await second.list()
    assert (info.id, info.name) == (made.id, "kept")
    again = await second.get("kept")
    assert (await again.exec("cat /opt/note")).stdout == b"changed\n"
    await again.delete()
    await second.detach()
    assert not list((tmp_path / "sandboxes").iterdir())


async def test_what_is_detached_from_ends_at_its_time(make_backend, tmp_path):
    backend = await make_backend(owner="me")
    await backend.create(SandboxSpec(ttl=2))
    await backend.detach()
    assert read_records(tmp_path / "sandboxes" / "me")
    await until(lambda: not list((tmp_path / "sandboxes").iterdir()))


async def test_an_owner_without_a_name_cannot_detach(make_backend):
    backend = await make_backend()
    assert not backend.detachable
    box = await backend.create(SandboxSpec())
    with pytest.raises(CapabilityError, match="`owner`"):
        await backend.detach()
    assert await box.alive()


async def test_sandboxes_in_memory_lie_in_shared_memory_and_leave_nothing_there():
    backend = BubblewrapBackend(BubblewrapSettings(in_memory=True))
    await backend.start()
    try:
        box = await backend.create(SandboxSpec(files={"file": b"here"}))
        place = box.box.layout.folder
        assert place.is_relative_to("/dev/shm")
        assert (await box.exec("cat file")).stdout == b"here"
    finally:
        await backend.close()
    assert not place.exists()


def test_without_shared_memory_sandboxes_lie_where_they_else_would(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(owners, "_MEMORY", str(tmp_path / "missing"))
    assert owners.default_root(in_memory=True) == owners.default_root()
