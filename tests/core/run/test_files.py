"""Files that survive a crash and hostile text."""

import pathlib

import pytest

from tumbler.errors import RunFolderError
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
