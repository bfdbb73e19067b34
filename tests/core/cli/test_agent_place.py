"""The agent's place: a folder of this machine in a real sandbox, and what tools see of it."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from tumbler.cli.agents.place import Site, opened_place
from tumbler.cli.sandboxes.reach import Shelf
from tumbler.contracts.sandbox import NetworkPolicy, Sandbox
from tumbler.errors import CapabilityError, PluginError, RunError, SandboxUnavailable
from tumbler.plugins import PluginHost


@pytest.fixture(scope="module")
def shelf():
    return Shelf(host=PluginHost.load(allow=["tumbler"]))


def site(folder, tmp_path, *, backend="bubblewrap", network=None, settings=()):
    settings = [*settings, f"root={tmp_path / 'sandboxes'}"] if backend == "bubblewrap" else settings
    return Site(backend=backend, folder=folder, network=network or NetworkPolicy(), settings=settings)


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "a project"
    folder.mkdir()
    (folder / "a.txt").write_text("of the host\n")
    return folder


@pytest.fixture
async def box(shelf, folder, tmp_path):
    async with opened_place(shelf, site(folder, tmp_path)) as place:
        yield place.sandbox


async def test_commands_and_files_see_the_folder_at_its_own_path(box, folder):
    assert isinstance(box, Sandbox)
    result = await box.exec("pwd; cat a.txt")
    assert result.stdout.decode() == f"{folder}\nof the host\n"
    assert await box.read("a.txt") == b"of the host\n" == await box.read(str(folder / "a.txt"))


async def test_what_is_written_lies_in_the_folder(box, folder):
    await box.write("below/it/b.sh", b"#!/bin/sh\necho run\n", mode=0o755)
    assert (folder / "below/it/b.sh").read_bytes() == b"#!/bin/sh\necho run\n"
    assert (folder / "below/it/b.sh").stat().st_uid == os.getuid()
    assert (await box.exec("below/it/b.sh")).stdout == b"run\n"
    assert [path.name for path in (folder / "below/it").iterdir()] == ["b.sh"], "something was left beside it"


async def test_bytes_come_out_as_they_went_in(box):
    content = bytes(range(256)) * 5000
    await box.write("-odd name\n", content)
    assert await box.read("-odd name\n") == content


async def test_what_is_no_file_is_told_as_python_does(box, folder):
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    for path, kind in {"none": FileNotFoundError, "sub": IsADirectoryError, "/usr/none": FileNotFoundError}.items():
        with pytest.raises(kind):
            await box.read(path)
    with pytest.raises(OSError, match="pipe") as caught:
        await box.read("pipe")
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(IsADirectoryError):
        await box.write("sub", b"")
    with pytest.raises(PermissionError):
        await box.write("/usr/new", b"")
    with pytest.raises(ValueError, match="no path"):
        await box.read("a\0b")


async def test_a_file_beyond_the_limit_is_refused(box):
    await box.write("large", b"x" * 1001)
    assert len(await box.read("large", limit=1001)) == 1001
    with pytest.raises(OSError, match="large") as caught:
        await box.read("large", limit=1000)
    assert caught.value.errno == errno.EFBIG


async def test_a_link_leads_nowhere_that_the_sandbox_does_not_see(box, folder, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(FileNotFoundError):
        await box.read("link")
    await box.write("link", b"mine")
    assert (tmp_path / "secret").read_text() == "secret" and (folder / "link").read_text() == "mine"


async def test_the_rest_of_the_machine_is_not_to_be_seen(box, folder, tmp_path):
    (tmp_path / "beside").write_text("x")
    listing = (await box.exec(["ls", str(tmp_path)])).stdout.decode().split("\n")
    assert listing == [folder.name, ""]
    assert (await box.exec("touch /usr/x /etc/x")).exit_code != 0


async def test_the_folder_outlives_the_sandbox(shelf, folder, tmp_path):
    async with opened_place(shelf, site(folder, tmp_path)) as place:
        await place.sandbox.write("kept", b"1")
    assert (folder / "kept").read_bytes() == b"1"
    assert not await place.sandbox.alive()


async def test_what_the_agent_can_touch_is_said(shelf, folder, tmp_path):
    allowed = NetworkPolicy(mode="allowlist", hosts=("pypi.org",))
    for network, told in ((NetworkPolicy(), "no network"), (allowed, "reaches pypi.org and nothing else")):
        async with opened_place(shelf, site(folder, tmp_path, network=network)) as place:
            said = ". ".join(place.touches)
        assert f"read and change {folder}" in said and told in said


async def test_ones_home_folder_is_warned_of(shelf, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    async with opened_place(shelf, site(folder, tmp_path)) as place:
        assert "your home folder" in place.touches[-1]


async def test_a_folder_whose_path_is_taken_in_the_sandbox_is_had_at_another(shelf, tmp_path):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        async with opened_place(shelf, site(Path(folder), tmp_path)) as place:
            assert "there: /work" in place.touches[0]
            await place.sandbox.write("a", b"1")
            assert (await place.sandbox.exec("pwd; cat a")).stdout == b"/work\n1"
        assert Path(folder, "a").read_bytes() == b"1"


async def test_a_shell_begins_in_the_folder(box, folder):
    shell = await box.session()
    assert (await shell.run("pwd")).stdout.decode() == f"{folder}\n"
    await shell.close()


async def test_a_folder_that_cannot_be_changed_is_refused(shelf, folder, tmp_path):
    folder.chmod(0o555)
    with pytest.raises(CapabilityError, match="cannot write there"):
        async with opened_place(shelf, site(folder, tmp_path)):
            pass


@pytest.mark.parametrize(
    ("backend", "settings", "error", "told"),
    [
        ("gateway", (), PluginError, "makes no sandboxes; those that do: bubblewrap"),
        ("bubblewrap", ("bwrap=no-such-program",), SandboxUnavailable, "tumbler sandbox doctor"),
        ("process", (), SandboxUnavailable, "--sandbox NAME"),
    ],
)
async def test_a_place_that_cannot_be_had_is_said_with_what_to_do(
    shelf, folder, tmp_path, backend, settings, error, told
):
    with pytest.raises(error, match=told):
        async with opened_place(shelf, site(folder, tmp_path, backend=backend, settings=settings)):
            pass


@pytest.mark.filterwarnings("ignore:the process backend isolates nothing:RuntimeWarning")
async def test_a_backend_that_mounts_nothing_is_refused(shelf, folder, tmp_path):
    settings = (f"root={tmp_path / 'processes'}", "i_know_this_is_not_isolated=true")
    with pytest.raises(CapabilityError, match=r"can do so; installed are: bubblewrap, docker"):
        async with opened_place(shelf, site(folder, tmp_path, backend="process", settings=settings)):
            pass


async def test_without_a_name_no_table_that_is_called_like_the_default_makes_the_sandbox(folder, tmp_path):
    table = '[backends.bubblewrap]\nuse = "process"\ni_know_this_is_not_isolated = true'
    (tmp_path / "registry.toml").write_text(f"schema = 1\n{table}\n")
    shelf = Shelf.of(tmp_path / "registry.toml")
    given = Site(folder=folder, network=NetworkPolicy(), settings=(f"root={tmp_path / 'sandboxes'}",))
    async with opened_place(shelf, given) as place:
        assert place.sandbox.tier != "none"


async def test_a_folder_that_is_not_there_is_named(shelf, tmp_path):
    with pytest.raises(RunError, match="is no folder; --workdir"):
        async with opened_place(shelf, site(tmp_path / "none", tmp_path)):
            pass


async def test_a_folder_that_holds_ones_home_folder_is_warned_of(shelf, folder, tmp_path, monkeypatch):
    (folder / "home").mkdir()
    monkeypatch.setenv("HOME", str(folder / "home"))
    async with opened_place(shelf, site(folder, tmp_path)) as place:
        assert "Your home folder is part of it" in place.touches[-1]
