import asyncio
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import Mount, NetworkPolicy, SandboxSpec
from tumbler.errors import CapabilityError, SandboxStartFailed
from tumbler_backends.sandbox.bubblewrap.filesystem.archives import unpack
from tumbler_backends.sandbox.bubblewrap.filesystem.images import ImageStore


def make_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, kind, value in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.mode = 0o6755
            if kind == tarfile.REGTYPE:
                info.size = len(value)
                tar.addfile(info, io.BytesIO(value))
            else:
                info.linkname = value
                tar.addfile(info)
    return path


def unpacked(tmp_path, members):
    folder = tmp_path / "unpacked"
    folder.mkdir()
    unpack(make_tar(tmp_path / "archive.tar", members), folder)
    return folder


@pytest.mark.parametrize("compress", ["", "z", "j", "J", "zstd"])
async def test_an_archive_serves_as_image_and_is_unpacked_once(make_backend, image, tmp_path, compress):
    archive = tmp_path / "image.tar"
    option = ["--zstd"] if compress == "zstd" else [f"-{compress}"] if compress else []
    packing = await asyncio.create_subprocess_exec("tar", "-C", image, *option, "-cf", archive, ".")
    assert await packing.wait() == 0
    backend = await make_backend(images={"small": archive})
    boxes = await asyncio.gather(*(backend.create(SandboxSpec(image=name)) for name in ("small", str(archive)) * 3))
    for box in boxes:
        assert (await box.exec("cat /opt/note /etc/link")).stdout.startswith(b"from the image\nroot:")
    assert len([folder for folder in (tmp_path / "images").iterdir() if folder.is_dir()]) == 1


async def test_what_an_image_sandbox_changes_is_its_own(make_backend, image):
    backend = await make_backend()
    one, two = [await backend.create(SandboxSpec(image=str(image))) for _ in range(2)]
    assert (await one.exec("echo changed >/opt/note; rm /bin/vi; mkdir /new; id -u", check=True)).stdout == b"1000\n"
    assert (await one.exec("cat /opt/note; ls -d /new /bin/vi")).stdout == b"changed\n/new\n"
    assert (await two.exec("cat /opt/note; ls -d /new /bin/vi")).stdout == b"from the image\n/bin/vi\n"
    assert (image / "opt/note").read_text() == "from the image\n"
    assert not (image / "new").exists()


async def test_the_host_sees_an_images_files_as_commands_do(make_backend, image):
    backend = await make_backend()
    box = await backend.create(SandboxSpec(image=str(image), files={"/etc/from-spec": b"spec"}))
    await box.exec("echo inside >/opt/new; rm /opt/note")
    assert await box.read("/opt/new") == b"inside\n"
    assert [entry.path for entry in await box.list("/opt")] == ["/opt/new"]
    assert await box.read("/etc/link") == await box.read("/etc/passwd")
    await box.write("/etc/passwd", b"replaced")
    assert (await box.exec("cat /etc/link /etc/from-spec")).stdout == b"replacedspec"
    await box.remove("/bin", recursive=True)
    assert (image / "bin/sh").exists()
    for path in ("/proc/1/x", "/dev/x", "/run/x", "/sys/x"):
        with pytest.raises(OSError, match="host may touch"):
            await box.write(path, b"")


async def test_a_mount_of_a_sandbox_shows_nowhere_on_the_host(make_backend, image):
    before = Path("/proc/self/mountinfo").read_text()
    backend = await make_backend()
    box = await backend.create(SandboxSpec(image=str(image)))
    assert b"overlay" in (await box.exec("cat /proc/mounts")).stdout
    assert Path("/proc/self/mountinfo").read_text() == before


async def test_links_that_a_sandbox_makes_never_move_a_mount_point(make_backend, image, tmp_path):
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown/file").write_text("shown")
    (tmp_path / "victim").mkdir()
    backend = await make_backend(mountable=(tmp_path / "shown",))
    mounts = (Mount(source=str(tmp_path / "shown"), target="/opt/deep/data"),)
    for aim in ("/oldroot", "/newroot/../oldroot", ""):
        box = await backend.create(SandboxSpec(image=str(image), mounts=mounts))
        moved = await box.exec(f"mv /run /away; mv /proc /away; mv /opt /moved && ln -s {aim}{tmp_path}/victim /opt")
        assert moved.exit_code == 0
        assert moved.stderr.count(b"busy") == 2
        assert (await box.exec("cat /moved/deep/data/file")).stdout == b"shown"
        while box.box.storage.room.namespaces is not None:
            await asyncio.sleep(0.05)
        with pytest.raises(SandboxStartFailed, match="opt"):  # everything would be mounted anew
            await box.exec("true")
    assert list((tmp_path / "victim").iterdir()) == []


async def test_users_are_those_of_the_image(make_backend, image):
    backend = await make_backend()
    for user, expected in (("alice", b"77 78 /home/alice\n"), ("77", b"77 78 /home/alice\n"), ("root", b"0 0 /root\n")):
        box = await backend.create(SandboxSpec(image=str(image), user=user))
        assert (await box.exec("echo $(id -u) $(id -g) $HOME; touch $HOME/mine", check=True)).stdout == expected
    with pytest.raises(CapabilityError, match=r"'bob' is not in /etc/passwd, which has root, alice"):
        await backend.create(SandboxSpec(image=str(image), user="bob"))
    box = await backend.create(SandboxSpec(user="root"))
    assert (await box.exec("id -u; cat /proc/self/status | grep CapEff")).stdout.split() == [
        b"0",
        b"CapEff:",
        b"0" * 16,
    ]


async def test_an_allowed_folder_may_be_named_from_home(make_backend, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    backend = await make_backend(mountable=(Path("~/data"),))
    box = await backend.create(SandboxSpec(mounts=(Mount(source=str(tmp_path / "data"), target="/data"),)))
    assert (await box.exec("ls -d /data")).stdout == b"/data\n"


async def test_mounts_come_from_allowed_folders_only(make_backend, image, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("data")
    (tmp_path / "data/out").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text("secret")
    backend = await make_backend(mountable=(tmp_path / "data",))
    for spec in (SandboxSpec(), SandboxSpec(image=str(image))):
        mounts = (
            Mount(source=str(tmp_path / "data"), target="/data"),
            Mount(source=str(tmp_path / "data/file"), target="/work/a/file"),
            Mount(source=str(tmp_path / "data"), target="/tmp/writable", writable=True),
        )
        box = await backend.create(SandboxSpec(image=spec.image, mounts=mounts))
        result = await box.exec(
            "cat /data/file /work/a/file; touch /data/x || echo no; touch /tmp/writable/y && echo yes"
        )
        assert result.stdout == b"datadatano\nyes\n"
    for source in ("/etc", str(tmp_path / "data/../secret"), str(tmp_path / "data/out"), "data"):
        with pytest.raises(CapabilityError, match="mountable"):
            await backend.create(SandboxSpec(mounts=(Mount(source=source, target="/data"),)))
    for target in ("/", "relative", "/proc/x", "/a/../proc"):
        with pytest.raises(CapabilityError, match="mount target"):
            await backend.create(SandboxSpec(mounts=(Mount(source=str(tmp_path / "data"), target=target),)))


async def test_an_image_sandbox_has_a_network_policy_too(make_backend, image):
    server = await asyncio.start_server(
        lambda reader, writer: (writer.write(b"served"), writer.close()), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    backend = await make_backend(hosts={"allowed.test": "127.0.0.1", "other.test": "127.0.0.1"})
    policy = NetworkPolicy(mode="allowlist", hosts=("allowed.test",))
    box = await backend.create(SandboxSpec(image=str(image), network=policy, labels={"trajectory": "t"}))
    assert (await box.exec(f"nc allowed.test {port} </dev/null")).stdout == b"served"
    assert (await box.exec(f"nc other.test {port} </dev/null")).stdout == b""
    await box.set_network(NetworkPolicy())
    assert (await box.exec(f"nc allowed.test {port} </dev/null")).stdout == b""
    records = await box.egress()
    assert {(record.host, record.allowed) for record in records} >= {("allowed.test", True), ("other.test", False)}
    assert {record.trajectory for record in records} == {"t"}
    server.close()
    await server.wait_closed()


# archives


def test_links_of_an_archive_stay_and_are_never_followed_out(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = unpacked(
        tmp_path,
        [
            ("usr/lib/", tarfile.DIRTYPE, ""),
            ("lib", tarfile.SYMTYPE, "/usr/lib"),
            ("lib/library", tarfile.REGTYPE, b"x"),
            ("etc/up", tarfile.SYMTYPE, str(outside)),
            ("file", tarfile.REGTYPE, b"content"),
            ("hard", tarfile.LNKTYPE, "file"),
        ],
    )
    assert (folder / "usr/lib/library").read_bytes() == b"x"
    assert (folder / "etc/up").readlink() == outside
    assert (folder / "hard").read_bytes() == b"content"
    assert (folder / "hard").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("aim", ["{outside}", "../../../outside", "../outside"])
def test_nothing_is_planted_through_a_link_that_leads_out(tmp_path, aim):
    outside = tmp_path / "outside"
    outside.mkdir()
    link = ("etc/up", tarfile.SYMTYPE, aim.format(outside=outside))
    with pytest.raises(OSError, match="up"):
        unpacked(tmp_path, [link, ("etc/up/planted", tarfile.REGTYPE, b"x")])
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["../escape", "a/../../escape"])
def test_a_name_that_leads_out_is_an_error(tmp_path, name):
    with pytest.raises(ValueError, match="leads out"):
        unpacked(tmp_path, [(name, tarfile.REGTYPE, b"x")])
    assert not (tmp_path / "escape").exists()


def test_a_hard_link_to_a_file_of_the_host_is_refused(tmp_path):
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(OSError, match="No such file"):
        unpacked(tmp_path, [("hard", tarfile.LNKTYPE, str(tmp_path / "secret"))])


def test_devices_and_pipes_are_left_out(tmp_path):
    folder = unpacked(
        tmp_path, [("null", tarfile.CHRTYPE, ""), ("pipe", tarfile.FIFOTYPE, ""), ("d", tarfile.DIRTYPE, "")]
    )
    assert [path.name for path in folder.iterdir()] == ["d"]


@pytest.mark.parametrize("content", [b"no archive", b"\x1f\x8b broken", b"\x28\xb5\x2f\xfd broken"])
async def test_a_broken_archive_is_said_and_leaves_nothing(make_backend, tmp_path, content):
    (tmp_path / "image.tar").write_bytes(content)
    backend = await make_backend()
    with pytest.raises(SandboxStartFailed, match="cannot be unpacked") as failed:
        await backend.create(SandboxSpec(image=str(tmp_path / "image.tar")))
    assert failed.value.phase == "image"
    assert [path for path in (tmp_path / "images").iterdir() if path.is_dir()] == []


def test_an_archive_without_a_shell_is_said(tmp_path):
    archive = make_tar(tmp_path / "saved.tar", [("manifest.json", tarfile.REGTYPE, b"[]")])
    with pytest.raises(SandboxStartFailed, match="docker export"):
        ImageStore(tmp_path / "cache", {}).resolve(str(archive))
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_an_unknown_image_is_said_with_near_names(tmp_path):
    store = ImageStore(tmp_path / "cache", {"python-3.12": tmp_path})
    with pytest.raises(CapabilityError, match=r"did you mean python-3\.12"):
        store.require("python-312")


def test_a_changed_archive_is_unpacked_again(image, tmp_path):
    store = ImageStore(tmp_path / "cache", {})
    archive = tmp_path / "image.tar"
    subprocess.run(["tar", "-C", image, "-cf", archive, "."], check=True)
    first = store.resolve(str(archive))
    with tarfile.open(archive, "a") as tar:
        info = tarfile.TarInfo("added")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"new"))
    second = store.resolve(str(archive))
    assert first != second
    assert (second / "added").read_bytes() == b"new"
    assert ImageStore(tmp_path / "cache", {}).resolve(str(archive)) == second
