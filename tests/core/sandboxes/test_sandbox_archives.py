"""Archives that untrusted code made are unpacked inside of their folder."""

import errno
import io
import stat
import tarfile
import zipfile

import pytest

from tumbler.errors import PolicyDenied
from tumbler.sandboxes import unpack


def add(tar, name, content=b"", kind=tarfile.REGTYPE, target="", mode=0o644):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mode = len(content), kind, target, mode
    tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("compression", ["", ":gz", ":xz"])
def test_a_tar_archive_is_unpacked(tmp_path, compression):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, f"w{compression}") as tar:
        add(tar, "./", kind=tarfile.DIRTYPE, mode=0o755)
        add(tar, "./d", kind=tarfile.DIRTYPE, mode=0o755)
        add(tar, "./d/file", b"content", mode=0o4751)
        add(tar, "link", kind=tarfile.SYMTYPE, target="d/file")
        add(tar, "hard", kind=tarfile.LNKTYPE, target="d/file")
    moved = unpack(archive, tmp_path / "out")
    assert (moved.files, moved.links, moved.bytes, moved.skipped) == (1, 2, 7, [])
    assert (tmp_path / "out" / "link").read_bytes() == (tmp_path / "out" / "hard").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "out" / "d" / "file").stat().st_mode) == 0o751


def test_nothing_of_a_tar_archive_leads_out(tmp_path):
    archive, secret = tmp_path / "a.tar", tmp_path / "secret"
    secret.write_bytes(b"secret")
    with tarfile.open(archive, "w") as tar:
        add(tar, "../above", b"x")
        add(tar, str(tmp_path / "absolute"), b"x")
        add(tar, "to", kind=tarfile.SYMTYPE, target=str(tmp_path))
        add(tar, "up", kind=tarfile.SYMTYPE, target="..")
        add(tar, "here", kind=tarfile.SYMTYPE, target=".")
        add(tar, "through", kind=tarfile.SYMTYPE, target="here/..")
        add(tar, "here/planted", b"x")
        add(tar, "hard", kind=tarfile.LNKTYPE, target="../secret")
        add(tar, "device", kind=tarfile.CHRTYPE)
        add(tar, "pipe", kind=tarfile.FIFOTYPE)
        add(tar, "good", b"good")
    moved = unpack(archive, tmp_path / "out")
    assert len(moved.skipped) == 9
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good", "here"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "out", "secret"]
    assert secret.read_bytes() == b"secret"


def test_a_zip_archive_is_unpacked_and_nothing_of_it_leads_out(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("d/file", b"content")
        opened.writestr("../above", b"x")
        opened.writestr("/absolute-of-the-suite", b"x")
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(link, "/etc/passwd")
        inner = zipfile.ZipInfo("inner")
        inner.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(inner, "d/file")
    moved = unpack(archive, tmp_path / "out")
    assert (moved.files, moved.links, len(moved.skipped)) == (1, 1, 3)
    assert (tmp_path / "out" / "inner").read_bytes() == b"content"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "out"]


def test_a_bomb_ends_at_the_limit(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("zeros", bytes(8 << 20))
    with pytest.raises(OSError, match="limit") as caught:
        unpack(archive, tmp_path / "out", limit=4 << 20)
    assert caught.value.errno == errno.EFBIG
    assert list((tmp_path / "out").iterdir()) == []


def test_too_many_entries_are_refused(tmp_path):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        for number in range(10):
            add(tar, str(number))
    with pytest.raises(PolicyDenied, match="more than 5 entries"):
        unpack(archive, tmp_path / "out", entries=5)
