import asyncio
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import NetworkPolicy, Resources, SandboxSpec
from tumbler.errors import CapabilityError, QuotaExceeded, SandboxStartFailed

SERVER = """
import socket
server = socket.create_server(("127.0.0.1", 8000))
print("on", flush=True)
server.accept()[0].send(b"served")
"""


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


async def until_closed(box):
    async with asyncio.timeout(30):
        while box.box.storage.room.namespaces is not None:
            await asyncio.sleep(0.02)


async def test_commands_of_a_sandbox_share_its_loopback(make_backend):
    backend = await make_backend()
    box, other = await backend.create(SandboxSpec()), await backend.create(SandboxSpec())
    server = await box.spawn(["python3", "-c", SERVER])
    await server.read()
    assert (await other.exec(["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8000"])).exit_code != 0
    assert (await box.exec(["bash", "-c", "cat </dev/tcp/127.0.0.1/8000"])).stdout == b"served"
    assert (await server.wait(30)).exit_code == 0


async def test_an_idle_sandbox_holds_nothing_open(make_backend, image):
    backend = await make_backend()
    before = descriptors()
    boxes = [await backend.create(SandboxSpec(image=place)) for place in (None, str(image))]
    await asyncio.gather(*(box.exec("echo kept >file", check=True) for box in boxes))
    async with asyncio.timeout(30):
        while descriptors() != before:
            await asyncio.sleep(0.02)
    for box in boxes:
        assert (await box.exec("cat file")).stdout == b"kept\n"


async def test_a_running_process_keeps_the_room(make_backend, image):
    backend = await make_backend()
    box = await backend.create(SandboxSpec(image=str(image)))
    process = await box.spawn(["sleep", "100"])
    opened = box.box.storage.room.namespaces
    await asyncio.sleep(1.5)
    await box.exec("true")
    assert opened is not None
    assert box.box.storage.room.namespaces is opened
    await process.kill()
    await until_closed(box)


async def test_a_sandbox_deleted_while_its_room_opens_leaves_nothing(make_backend, image):
    backend = await make_backend()
    before = descriptors()
    for step in range(10):
        box = await backend.create(SandboxSpec(image=str(image)))
        command = asyncio.ensure_future(box.exec("true"))
        await asyncio.sleep(0.0005 * step)
        await box.delete()
        await asyncio.gather(command, return_exceptions=True)
    assert descriptors() == before


@pytest.mark.parametrize("with_image", [False, True])
async def test_a_disk_has_the_size_that_was_asked_for(make_backend, image, with_image):
    backend = await make_backend()
    spec = SandboxSpec(image=str(image) if with_image else None, resources=Resources(disk_bytes=4 << 20))
    box = await backend.create(spec)
    result = await box.exec("dd if=/dev/zero of=large bs=65536 count=1000")
    assert result.exit_code != 0
    assert b"No space left" in result.stderr
    assert (await box.stat("large")).size <= 4 << 20
    with pytest.raises(QuotaExceeded, match="disk_bytes are 4194304"):
        await box.write("more", bytes(1 << 20))
    await box.remove("large")
    await box.write("more", bytes(1 << 20))
    assert (await box.exec("wc -c <more")).stdout.strip() == b"1048576"
    assert "disk_bytes" in backend.capabilities.enforces


async def test_the_files_of_a_set_size_stay_while_the_sandbox_idles_and_are_copied_by_a_fork(make_backend, image):
    backend = await make_backend()
    for place in (None, str(image)):
        spec = SandboxSpec(image=place, resources=Resources(disk_bytes=1 << 20), files={"file": b"spec"})
        box = await backend.create(spec)
        await asyncio.sleep(1.3)
        (fork,) = await box.fork()
        await box.delete()
        assert await fork.read("file") == b"spec"
        assert (await fork.exec("cat file; dd if=/dev/zero of=large bs=65536 count=100")).stdout == b"spec"
        await fork.delete()


async def test_an_exposed_port_is_reached_as_long_as_something_listens(make_backend):
    backend = await make_backend()
    box = await backend.create(SandboxSpec())
    url = await box.expose(8000)
    assert url == await box.expose(8000)
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.read() == b""
    writer.close()
    server = await box.spawn(["python3", "-c", SERVER])
    await server.read()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.read() == b"served"
    writer.close()
    await box.delete()
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_policy_that_makes_no_sense_is_refused(make_backend):
    backend = await make_backend()
    policy = NetworkPolicy(mode="allowlist", cidrs=("not a range",))
    with pytest.raises(CapabilityError, match="not a range"):
        await backend.create(SandboxSpec(network=policy))
    box = await backend.create(SandboxSpec())
    with pytest.raises(CapabilityError, match="not a range"):
        await box.set_network(policy)


async def test_a_root_that_cannot_be_mounted_is_a_failed_start(make_backend, image, tmp_path):
    backend = await make_backend()
    box = await backend.create(SandboxSpec(image=str(image)))
    await box.exec("true")
    await until_closed(box)
    (box.box.layout.layer / "upper/dev").rmdir()
    (box.box.layout.layer / "upper/dev").symlink_to(tmp_path)
    with pytest.raises(SandboxStartFailed, match="put together"):
        await box.exec("true")
