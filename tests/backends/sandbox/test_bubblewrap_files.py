import errno
import os

import pytest

from tumbler.errors import PolicyDenied
from tumbler_backends.sandbox.bubblewrap.filesystem.files import SandboxFiles, read_and_close
from tumbler_backends.sandbox.posix import opening


@pytest.fixture(params=["openat2", "walk"])
def store(request, tmp_path, monkeypatch):
    if request.param == "walk":
        monkeypatch.setattr(opening, "_OPENAT2", 100_000)  # no such call: as on an old kernel
    for folder in ("root/work", "root/tmp", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "outside/secret").write_text("secret")
    return SandboxFiles(tmp_path / "root", tmp_path, "/work", ("/work", "/tmp"))


def read(store, path, limit=100):
    descriptor, _ = store.open(path)
    return read_and_close(descriptor, limit, path)


def test_a_file_is_written_with_its_parents_and_read_back(store, tmp_path):
    store.write("a/b/c", b"content", 0o750)
    assert read(store, "a/b/c") == read(store, "/work/a/b/c") == read(store, "a/../a/./b/c") == b"content"
    assert (tmp_path / "root/work/a/b/c").stat().st_mode & 0o777 == 0o750
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "root"}


def test_a_parent_that_is_a_link_out_is_never_followed(store, tmp_path):
    work = tmp_path / "root/work"
    (work / "absolute").symlink_to(tmp_path / "outside")
    (work / "relative").symlink_to("../../outside")
    for name in ("absolute", "relative"):
        with pytest.raises(OSError, match=name):
            read(store, f"{name}/secret")
        with pytest.raises(OSError, match=name):
            store.write(f"{name}/planted", b"", 0o644)
    assert list((tmp_path / "outside").iterdir()) == [tmp_path / "outside/secret"]


def test_a_link_in_the_last_place_is_not_read_outside_and_replaced_by_a_write(store, tmp_path):
    link = tmp_path / "root/work/link"
    link.symlink_to(tmp_path / "outside/secret")
    with pytest.raises(OSError, match="link"):
        read(store, "link")
    store.write("link", b"mine", 0o644)
    assert not link.is_symlink()
    assert (tmp_path / "outside/secret").read_text() == "secret"


def test_paths_elsewhere_are_refused_by_name(store):
    for path in ("/etc/passwd", "../escape", "/work/../etc/passwd", "/tmpfile", "/"):
        with pytest.raises(PolicyDenied, match="under /work, /tmp"):
            store.write(path, b"", 0o644)
    with pytest.raises(ValueError, match="NUL"):
        store.open("a\0b")


def test_a_pipe_or_a_growing_file_does_not_hang_the_reader(store, tmp_path):
    os.mkfifo(tmp_path / "root/work/pipe")
    with pytest.raises(OSError, match="pipe") as caught:
        store.open("pipe")
    assert caught.value.errno == errno.EINVAL
    store.write("file", b"12345", 0o644)
    descriptor, size = store.open("file")
    assert size == 5
    (tmp_path / "root/work/file").write_bytes(b"123456")
    with pytest.raises(OSError, match="limit of 5") as caught:
        read_and_close(descriptor, 5, "file")
    assert caught.value.errno == errno.EFBIG


def test_a_failed_write_leaves_no_temporary_file(store, tmp_path):
    (tmp_path / "root/work/folder").mkdir()
    with pytest.raises(IsADirectoryError):
        store.write("folder", b"", 0o644)
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "root"}
