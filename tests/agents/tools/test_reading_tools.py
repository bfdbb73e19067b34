"""The tools `read` and `read_many`."""

import errno

import pytest

from tumbler_agents.tools.ledger import FileLedger
from tumbler_agents.tools.reading import read_tool
from tumbler_agents.tools.settings import SandboxToolsSettings
from tumbler_agents.tools.workplace import Workplace

NAMES = [
    "a b.txt",
    "-rf",
    "--help",
    "new\nline",
    "quo\"te's",
    "ünïcode ☃",
    "$HOME",
    "a;b|c",
    "*",
    "trailing ",
    "back\\slash",
]


async def test_lines_come_with_numbers_or_without(call, box):
    await box.write("a.py", b"one\ntwo\n")
    assert (await call("read", path="a.py")).text == "     1\tone\n     2\ttwo"
    assert (await call("read", path="/work/a.py", numbered=False)).text == "one\ntwo"


async def test_a_part_is_read_by_offset_and_limit_and_tells_how_to_go_on(call, box):
    await box.write("a", b"\n".join(b"line %d" % n for n in range(1, 11)))
    output = await call("read", path="a", offset=4, limit=2, numbered=False)
    assert output.text == "line 4\nline 5\n[... lines 6 to 10 follow; go on with offset 6]"
    assert (await call("read", path="a", offset=10, numbered=False)).text == "line 10"
    past = await call("read", path="a", offset=11)
    assert past.errored
    assert "only 10 lines" in past.text


@pytest.mark.parametrize("name", NAMES)
async def test_any_name_is_read_written_edited_listed_and_searched(call, box, name):
    created = await call("write", path=name, content="first\nsecond\n")
    assert not created.errored, created.text
    assert await box.read(f"/work/{name}") == b"first\nsecond\n"
    assert (await call("read", path=name, numbered=False)).text == "first\nsecond"
    assert not (await call("edit", path=name, old="second", new="third")).errored
    assert await box.read(f"/work/{name}") == b"first\nthird\n"
    listed = (await call("list")).text
    assert listed == name.replace("\n", "\\n")
    assert (await call("glob", pattern="**/*")).text == listed
    assert (await call("search", pattern="thi[r]d")).text == f"{listed}:2:third"
    assert (await call("read_many", paths=["**"])).text.startswith(f"==> {listed} <==")


async def test_what_is_no_text_is_told_with_its_size_and_beginning(call, box):
    await box.write("image.png", b"\x89PNG\r\n\x1a\n\0\0\0")
    output = await call("read", path="image.png")
    assert output.errored
    assert "image.png is a binary file of 11 bytes that begins with 89 50 4e 47" in output.text


async def test_an_empty_file_other_encodings_and_windows_line_ends_are_shown(call, box):
    await box.write("empty", b"")
    await box.write("latin", "grün".encode("latin-1"))
    await box.write("windows", b"a\r\nb\r\n")
    assert (await call("read", path="empty")).text == "(the file is empty)"
    assert (await call("read", path="latin", numbered=False)).text == "gr\ufffdn"
    assert (await call("read", path="windows", numbered=False)).text == "a\nb"


async def test_a_missing_file_a_folder_and_a_pipe_are_answered(call, box):
    await box.exec("mkdir folder && mkfifo pipe", check=True)
    missing = await call("read", path="missing.txt")
    assert missing.errored
    assert missing.text == "error: there is no file missing.txt (the working folder is /work)"
    assert "folder is a folder; use list" in (await call("read", path="folder")).text
    assert (await call("read", path="pipe")).errored
    assert (await call("read", path="folder/file/deeper")).errored


async def test_a_file_outside_of_what_the_host_opens_is_read_by_a_command(call):
    assert "root:" in (await call("read", path="/etc/passwd")).text
    denied = await call("read", path="/etc/missing")
    assert denied.errored
    assert "No such file" in denied.text


class TestBounds:
    @pytest.fixture
    def settings(self):
        return SandboxToolsSettings(output_chars=300, line_chars=40, file_bytes=5000, read_lines=3)

    async def test_long_lines_and_long_files_are_cut_and_counted(self, call, box):
        await box.write("long", b"x" * 100 + b"\n" + b"y\n" * 10)
        lines = (await call("read", path="long", numbered=False)).text.split("\n")
        assert lines[0] == "x" * 40 + " [... 60 characters left out]"
        assert lines[1:] == ["y", "y", "[... lines 4 to 11 follow; go on with offset 4]"]

    async def test_a_page_is_as_long_as_an_answer_may_be(self, call, box):
        await box.write("wide", b"\n".join(b"%038d" % n for n in range(20)))
        output = await call("read", path="wide", limit=20)
        assert len(output.text) < 400
        assert "go on with offset 7]" in output.text

    async def test_a_file_that_is_too_large_is_answered(self, call, box):
        await box.write("huge", b"x" * 5001)
        for path in ("huge", "/bin/sh"):
            output = await call("read", path=path)
            assert output.errored
            assert "5000" in output.text

    async def test_several_files_share_the_room(self, call, box):
        for n in range(8):
            await box.write(f"f{n}", b"z" * 39 + b"\n" + b"z" * 39)
        output = await call("read_many", paths=["f?"])
        assert "==> f0 <==" in output.text
        assert "files more did not fit" in output.text


async def test_several_files_are_read_once_each_and_failures_are_told_in_their_place(call, box):
    await box.write("src/a.py", b"A")
    await box.write("src/deep/b.py", b"B")
    await box.write("c.bin", b"\0")
    output = await call("read_many", paths=["src/**/*.py", "src/a.py", "c.bin", "none.py", "no/*.py", "*.rs"])
    assert not output.errored
    parts = output.text.split("\n\n")
    assert "==> no/*.py <==\nno file matches" in parts
    assert "==> *.rs <==\nno file matches" in parts
    assert [part.split("\n")[0] for part in parts[2:]] == [
        "==> src/a.py <==",
        "==> src/deep/b.py <==",
        "==> c.bin <==",
        "==> none.py <==",
    ]
    assert "binary" in parts[4]
    assert "there is no file" in parts[5]
    assert (await call("read_many", paths=["none.py"])).errored


async def test_of_a_file_that_the_sandbox_calls_too_large_it_is_said_what_to_do():
    class Terse:
        async def read(self, path, *, limit):
            raise OSError(errno.EFBIG, "File too large", path)

    place = Workplace(Terse(), SandboxToolsSettings(folder="/work", file_bytes=5000), FileLedger())
    place._folder = "/work"
    output = await read_tool(place).call({"path": "huge"})
    assert output.errored and "huge holds more than 5000 bytes; use the shell" in output.text
