"""Files that survive a crash and hostile text."""

import pathlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tumbler.errors import RunError, RunFolderError
from tumbler.run.files import append_line, read_json, read_lines, repair_lines, write_json


def test_text_that_is_not_valid_unicode_is_written_and_read_back(tmp_path: pathlib.Path) -> None:
    value = {"text": "lone \ud800 surrogate, \x00 and \u2028"}
    append_line(tmp_path / "a.jsonl", value)
    write_json(tmp_path / "a.json", value)
    assert list(read_lines(tmp_path / "a.jsonl")) == [value]
    assert read_json(tmp_path / "a.json") == value


def test_a_torn_line_is_not_read_and_is_cut_off(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.jsonl"
    append_line(path, {"a": 1})
    path.write_bytes(path.read_bytes() + b'{"a": ')
    assert list(read_lines(path)) == [{"a": 1}]
    repair_lines(path)
    append_line(path, {"a": 2})
    assert list(read_lines(path)) == [{"a": 1}, {"a": 2}]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_that_does_not_fit_leaves_nothing_that_a_shorter_one_could_be_joined_to(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.jsonl"
    append_line(path, {"a": 1})
    with largest_file(40):
        with pytest.raises(RunError, match=r"a\.jsonl could not be written: .*KiB are free there"):
            append_line(path, {"a": "x" * 100})
        append_line(path, {"a": 2})
    assert list(read_lines(path)) == [{"a": 1}, {"a": 2}]


def test_a_file_that_does_not_fit_leaves_the_old_one_and_nothing_else(tmp_path: pathlib.Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with largest_file(40), pytest.raises(RunError, match=r"a\.json could not be written"):
        write_json(tmp_path / "a.json", {"a": "x" * 100})
    assert read_json(tmp_path / "a.json") == {"a": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_a_damaged_line_in_the_middle_is_an_error_with_its_place(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\nnonsense\n{"a": 2}\n')
    with pytest.raises(RunFolderError, match="line 2"):
        list(read_lines(path))


def test_a_missing_or_broken_json_file_says_what_is_wrong(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RunFolderError, match="does not exist"):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(RunFolderError, match="not JSON"):
        read_json(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(RunFolderError, match="no JSON object"):
        read_json(tmp_path / "list.json")
