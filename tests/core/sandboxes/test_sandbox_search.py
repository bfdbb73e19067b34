"""Patterns find what a shell would find."""

import pytest

from tumbler.sandboxes import glob, read_text, write_text


@pytest.fixture
async def tree(box):
    await box.exec("mkdir -p a/b/c .hidden out; touch a/1.py a/2.txt a/b/3.py a/b/c/4.py .hidden/5.py a/.6.py out/7.py")
    await box.exec("ln -s ../out a/link")
    return box


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a/*.py", ["a/1.py"]),
        ("a/**/*.py", ["a/1.py", "a/b/3.py", "a/b/c/4.py"]),
        ("**/*.py", ["a/1.py", "a/b/3.py", "a/b/c/4.py", "out/7.py"]),
        ("a/?.[pt]*", ["a/1.py", "a/2.txt"]),
        ("a/[!1].*", ["a/2.txt"]),
        ("a/.*", ["a/.6.py"]),
        ("*/b", ["a/b"]),
        ("a/b/**", ["a/b/3.py", "a/b/c", "a/b/c/4.py"]),
        ("./a/2.txt", ["a/2.txt"]),
        ("*/link/*", []),
        ("nothing/*", []),
        ("a/1.py/*", []),
    ],
)
async def test_a_pattern_finds(tree, pattern, expected):
    found = [entry.path.removeprefix("/work/") for entry in await glob(tree, pattern)]
    assert found == expected


async def test_an_absolute_pattern_is_one(tree):
    assert [entry.path for entry in await glob(tree, "/work/a/1*")] == ["/work/a/1.py"]


async def test_a_pattern_that_names_nothing_is_refused(tree):
    with pytest.raises(ValueError, match="names nothing"):
        await glob(tree, "./")


async def test_text_keeps_its_line_ends(box):
    await write_text(box, "file", "ü\r\nb\n")
    assert await box.read("file") == "ü\r\nb\n".encode()
    assert await read_text(box, "file") == "ü\r\nb\n"
    await box.write("file", b"\xff")
    with pytest.raises(UnicodeDecodeError):
        await read_text(box, "file")
