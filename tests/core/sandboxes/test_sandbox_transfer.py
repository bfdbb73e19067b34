"""Files and folders go in and out, and nothing leads out of the destination."""

import errno
import os
import tracemalloc

import pytest

from tumbler.contracts.sandbox_files import FileEntry
from tumbler.sandboxes import download, upload


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "a").write_bytes(b"1")
    (folder / "sub" / "script").write_bytes(b"#!/bin/sh\necho ran\n")
    (folder / "sub" / "script").chmod(0o750)
    (folder / "sub" / "inner").symlink_to("../a")
    (folder / "outer").symlink_to("/etc/hostname")
    (folder / "upwards").symlink_to("../../secret")
    os.mkfifo(folder / "pipe")
    return folder


async def test_a_folder_goes_in_with_modes_and_inner_links(box, source):
    moved = await upload(box, source, "in")
    assert (moved.files, moved.folders, moved.links, moved.bytes) == (2, 2, 1, 20)
    assert len(moved.skipped) == 3
    assert (await box.exec("cat in/sub/inner; in/sub/script; ls in; ls in/sub")).stdout.split() == [
        *(b"1ran", b"a", b"sub"),
        *(b"deep", b"inner", b"script"),
    ]


async def test_a_folder_comes_out_as_it_went_in(box, source, tmp_path):
    await upload(box, source, "in")
    moved = await download(box, "in", tmp_path / "out")
    assert (moved.files, moved.links, moved.skipped) == (2, 1, [])
    out = tmp_path / "out"
    assert (out / "sub" / "inner").read_bytes() == b"1"
    assert (out / "sub" / "script").stat().st_mode & 0o777 == 0o750
    assert (out / "sub" / "deep").is_dir()


async def test_one_file_goes_in_and_out(box, tmp_path):
    (tmp_path / "file").write_bytes(bytes(range(256)))
    await upload(box, tmp_path / "file", "new/place")
    moved = await download(box, "new/place", tmp_path / "there" / "copy")
    assert (tmp_path / "there" / "copy").read_bytes() == bytes(range(256))
    assert (moved.files, moved.bytes) == (1, 256)


async def test_links_and_devices_that_lead_out_stay_out(box, tmp_path):
    await box.exec("mkdir -p t/sub; ln -s /etc t/absolute; ln -s ../.. t/up; ln -s . t/sub/here; mkfifo t/pipe")
    await box.exec("ln -s ../sub t/sub/fine; ln -s here/../../.. t/sub/through; echo x >t/file; chmod 4755 t/file")
    moved = await download(box, "t", tmp_path / "out")
    assert sorted(entry.split(":")[0] for entry in moved.skipped) == ["absolute", "pipe", "sub/through", "up"]
    assert (tmp_path / "out" / "sub" / "fine" / "here").exists()
    assert (tmp_path / "out" / "file").stat().st_mode & 0o7777 == 0o755


class LyingBox:
    """A sandbox whose names were chosen to lead out of the destination."""

    def __init__(self, names):
        self.names = names

    async def stat(self, path):
        return FileEntry(path=path, kind="directory", size=0, mode=0o755, modified=0.0)

    async def list(self, path=".", *, depth=1):
        entries = [FileEntry(path="/x", kind="file", size=1, mode=0o644, modified=0.0) for _ in self.names]
        for entry, name in zip(entries, self.names, strict=True):
            object.__setattr__(entry, "path", NamedPath(name))
        return entries

    async def read_stream(self, path, *, offset=0):
        yield b"planted"


class NamedPath(str):
    """A path whose last part is all of it, slashes included."""

    def rpartition(self, separator):
        return ("", separator, str(self))


async def test_names_that_lead_out_are_left_out(tmp_path):
    names = ["../above", "/tmp/absolute", "a/../../b", "..", ".", "", "nul\0", "good"]
    moved = await download(LyingBox(names), "t", tmp_path / "out")
    assert len(moved.skipped) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good"]


async def test_links_that_lie_in_the_destination_are_not_written_through(box, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_bytes(b"old")
    out = tmp_path / "out"
    out.mkdir()
    (out / "sub").symlink_to(victim)
    (out / "file").symlink_to(victim / "file")
    await box.exec("mkdir -p t/sub; echo new >t/sub/planted; echo new >t/file")
    moved = await download(box, "t", out)
    assert [path.name for path in victim.iterdir()] == ["file"]
    assert (victim / "file").read_bytes() == b"old"
    assert (out / "file").read_bytes() == b"new\n"
    assert len(moved.skipped) == 1


async def test_a_limit_ends_a_download_and_leaves_no_half_file(box, tmp_path):
    await box.exec("head -c 3000000 /dev/zero >large")
    with pytest.raises(OSError, match="limit") as caught:
        await download(box, "large", tmp_path / "out" / "large", limit=2_000_000)
    assert caught.value.errno == errno.EFBIG
    assert list((tmp_path / "out").iterdir()) == []


async def test_memory_does_not_depend_on_the_size(box, tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    try:
        await upload(box, tmp_path / "large", "large")
        await download(box, "large", tmp_path / "back")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "back").stat().st_size == 64 << 20
    assert peak < 16 << 20


async def test_what_is_not_there_is_an_error(box, tmp_path):
    with pytest.raises(FileNotFoundError):
        await upload(box, tmp_path / "missing", "x")
    with pytest.raises(FileNotFoundError):
        await download(box, "missing", tmp_path / "x")
