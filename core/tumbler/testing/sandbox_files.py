"""The part of the sandbox suite about `Sandbox.read` and `Sandbox.write`."""

import errno

import pytest

from tumbler.contracts.sandbox import Sandbox, SandboxSpec
from tumbler.errors import PolicyDenied
from tumbler.testing.sandbox_fixtures import Boxes, SandboxFixtures

__all__ = ["FileTests"]


@pytest.mark.asyncio(loop_scope="class")
class FileTests(SandboxFixtures):
    """Contents, errors, and no way out."""

    async def test_written_bytes_are_read_back(self, sandbox: Sandbox) -> None:
        """Any bytes, any size, parents made, relative and absolute."""
        content = bytes(range(256)) * 5000
        await sandbox.write("new/folder/file.bin", content)
        assert await sandbox.read("new/folder/file.bin") == content
        await sandbox.write("/tmp/x", b"")
        assert await sandbox.read("/tmp/x") == b""
        assert (await sandbox.exec("wc -c <new/folder/file.bin; ls /tmp/x")).stdout.split() == [b"1280000", b"/tmp/x"]

    async def test_the_specs_files_are_there_at_once(self, boxes: Boxes) -> None:
        """Also for the first command."""
        sandbox = await boxes(SandboxSpec(files={"a": b"1", "b/c": b"\0\xff"}))
        assert await sandbox.read("b/c") == b"\0\xff"
        assert (await sandbox.exec("cat a; find . -type f | sort")).stdout == b"1./a\n./b/c\n"
        await sandbox.delete()

    async def test_files_written_from_outside_belong_to_the_sandbox(self, sandbox: Sandbox) -> None:
        """Mode and ownership allow what the mode says."""
        await sandbox.write("dir/script", b"#!/bin/sh\necho ran\n", mode=0o755)
        assert (
            await sandbox.exec("dir/script && echo more >>dir/script && rm -r dir && echo gone")
        ).stdout == b"ran\ngone\n"

    async def test_files_made_inside_can_be_read_outside(self, sandbox: Sandbox) -> None:
        """In `exec` and in sessions alike."""
        await sandbox.exec("printf made >made")
        assert await sandbox.read("made") == b"made"

    async def test_errors_of_files_are_builtin(self, sandbox: Sandbox) -> None:
        """The classes of `OSError` tell what is wrong."""
        await sandbox.exec("mkdir folder; echo x >file; mkfifo pipe")
        with pytest.raises(FileNotFoundError):
            await sandbox.read("missing")
        with pytest.raises(IsADirectoryError):
            await sandbox.read("folder")
        with pytest.raises(IsADirectoryError):
            await sandbox.write("folder", b"")
        with pytest.raises(NotADirectoryError):
            await sandbox.write("file/below", b"")
        with pytest.raises(OSError, match="pipe"):
            await sandbox.read("pipe")

    async def test_read_refuses_what_is_longer_than_the_limit(self, sandbox: Sandbox) -> None:
        """One byte more is too much."""
        await sandbox.write("file", b"12345")
        assert await sandbox.read("file", limit=5) == b"12345"
        with pytest.raises(OSError, match="limit") as caught:
            await sandbox.read("file", limit=4)
        assert caught.value.errno == errno.EFBIG
        assert caught.value.filename is not None

    async def test_paths_cannot_lead_out_of_the_sandbox(self, sandbox: Sandbox) -> None:
        """Neither `..` nor links planted inside reach the host."""
        await sandbox.exec(
            "ln -s /etc/shadow absolute; ln -s ../../../../../../../../etc/shadow relative; ln -s / root; "
            "ln -s /proc/1/root process; ln -s /proc/self/cwd cwd"
        )
        for path in ("../../../../../../etc/shadow", "absolute", "relative", "root/etc/shadow", "process/etc/shadow"):
            with pytest.raises((PolicyDenied, OSError)):
                await sandbox.read(path)
        with pytest.raises((PolicyDenied, OSError)):
            await sandbox.write("../../../../../../etc/tumbler-suite-escape", b"")

    async def test_links_within_the_sandbox_can_be_followed(self, sandbox: Sandbox) -> None:
        """Absolute ones mean the sandbox's own tree."""
        await sandbox.exec("echo target >/tmp/target; ln -s /tmp/target link; mkdir d; ln -s d e")
        await sandbox.write("e/file", b"through the link")
        assert await sandbox.read("link") == b"target\n"
        assert await sandbox.read("d/file") == b"through the link"

    async def test_writing_replaces_a_file_and_never_its_other_names(self, sandbox: Sandbox) -> None:
        """A hard link keeps the old content."""
        await sandbox.exec("echo old >file; ln file other")
        await sandbox.write("file", b"new\n")
        assert (await sandbox.exec("cat file other")).stdout == b"new\nold\n"
