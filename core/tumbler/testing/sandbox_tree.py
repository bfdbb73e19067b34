"""The part of the complete sandbox suite about the tree of files: list, stat, mkdir, move, remove."""

import errno

import pytest

from tumbler.contracts.sandbox_control import CompleteSandbox
from tumbler.testing.sandbox_fixtures import CompleteFixtures

__all__ = ["TreeTests"]


@pytest.mark.asyncio(loop_scope="class")
class TreeTests(CompleteFixtures):
    """Entries as they are, changes, and the builtin errors."""

    async def test_a_folder_is_listed_with_what_each_entry_is(self, box: CompleteSandbox) -> None:
        """Hidden ones too, sorted by path."""
        await box.exec("mkdir t; cd t; printf 12345 >b; chmod 640 b; mkdir .a; ln -s b c; mkfifo d; mkdir e; echo >e/f")
        base = (await box.stat("t")).path
        entries = await box.list("t")
        assert [entry.path for entry in entries] == [f"{base}/{name}" for name in (".a", "b", "c", "d", "e")]
        assert [entry.kind for entry in entries] == ["directory", "file", "symlink", "other", "directory"]
        assert [entry.name for entry in entries] == [".a", "b", "c", "d", "e"]
        file, link = entries[1], entries[2]
        assert (file.size, file.mode, file.target, link.target) == (5, 0o640, None, "b")

    async def test_depth_says_how_far_down_a_list_goes(self, box: CompleteSandbox) -> None:
        """One is the folder's own entries."""
        await box.exec("mkdir -p t/a/b; echo >t/a/b/c; echo >t/z")
        base = (await box.stat("t")).path
        for depth, expected in ((1, ["a", "z"]), (2, ["a", "a/b", "z"]), (9, ["a", "a/b", "a/b/c", "z"])):
            assert [entry.path for entry in await box.list("t", depth=depth)] == [f"{base}/{name}" for name in expected]

    async def test_a_list_follows_no_link_below(self, box: CompleteSandbox) -> None:
        """However deep it goes."""
        await box.exec("mkdir t out; echo >out/file; ln -s ../out t/link; ln -s / t/root")
        entries = await box.list("t", depth=5)
        assert [(entry.name, entry.kind) for entry in entries] == [("link", "symlink"), ("root", "symlink")]

    async def test_stat_describes_a_link_itself(self, box: CompleteSandbox) -> None:
        """Also one that leads nowhere."""
        await box.exec("ln -s nowhere link; printf 123 >file; touch -d @1000000000 file; chmod 4755 file")
        link, file = await box.stat("link"), await box.stat("file")
        assert (link.kind, link.target) == ("symlink", "nowhere")
        assert (file.kind, file.size, int(file.modified)) == ("file", 3, 1_000_000_000)
        assert file.mode & 0o777 == 0o755

    async def test_folders_are_made(self, box: CompleteSandbox) -> None:
        """With parents and again, unless that is not wanted."""
        await box.mkdir("a/b/c")
        await box.mkdir("a/b/c")
        with pytest.raises(FileExistsError):
            await box.mkdir("a/b/c", exist_ok=False)
        with pytest.raises(FileNotFoundError):
            await box.mkdir("x/y", parents=False)
        await box.write("file", b"")
        with pytest.raises(FileExistsError):
            await box.mkdir("file")
        assert (await box.exec("echo >a/b/c/made && echo writable")).stdout == b"writable\n"

    async def test_files_and_folders_are_moved(self, box: CompleteSandbox) -> None:
        """Parents are made, and a file in the way is replaced."""
        await box.exec("echo one >one; echo two >two; mkdir d; echo in >d/in")
        await box.move("one", "new/place/one")
        await box.move("two", "new/place/one")
        await box.move("d", "new/d")
        assert await box.read("new/place/one") == b"two\n"
        assert await box.read("new/d/in") == b"in\n"
        assert [entry.name for entry in await box.list(".")] == ["new"]

    async def test_a_move_that_cannot_be_changes_nothing(self, box: CompleteSandbox) -> None:
        """The builtin class tells why."""
        await box.exec("mkdir -p d full/in; echo >file")
        with pytest.raises(FileNotFoundError):
            await box.move("missing", "there")
        with pytest.raises(FileNotFoundError) as missing:
            await box.stat("missing")
        assert "None" not in str(missing.value)
        with pytest.raises(OSError, match="full"):
            await box.move("d", "full")
        with pytest.raises(NotADirectoryError):
            await box.move("d", "file/below")
        assert [entry.name for entry in await box.list(".")] == ["d", "file", "full"]

    async def test_a_moved_link_stays_a_link(self, box: CompleteSandbox) -> None:
        """What it leads to stays where it is."""
        await box.exec("echo target >target; ln -s target link")
        await box.move("link", "moved")
        assert (await box.stat("moved")).target == "target"
        assert await box.read("target") == b"target\n"

    async def test_entries_are_removed(self, box: CompleteSandbox) -> None:
        """A folder with content only if that is asked for."""
        await box.exec("mkdir -p empty full/sub; echo >full/sub/file; echo >file; mkfifo pipe")
        for name in ("empty", "file", "pipe"):
            await box.remove(name)
        with pytest.raises(OSError, match="full") as caught:
            await box.remove("full")
        assert caught.value.errno == errno.ENOTEMPTY
        await box.remove("full", recursive=True)
        assert await box.list(".") == []
        with pytest.raises(FileNotFoundError):
            await box.remove("full", recursive=True)

    async def test_removing_spares_what_links_lead_to(self, box: CompleteSandbox) -> None:
        """In the last place and below."""
        await box.exec("mkdir keep t; echo >keep/file; ln -s ../keep t/link; ln -s keep link; ln -s keep other")
        await box.remove("link")
        await box.remove("other", recursive=True)
        await box.remove("t", recursive=True)
        assert [entry.name for entry in await box.list(".", depth=2)] == ["keep", "file"]

    async def test_a_folder_without_permissions_is_removed(self, box: CompleteSandbox) -> None:
        """Untrusted code leaves such."""
        await box.exec("mkdir -p t/a/b; echo >t/a/b/file; chmod 0 t/a/b t/a")
        await box.remove("t", recursive=True)
        assert await box.list(".") == []

    async def test_errors_of_the_tree_are_builtin(self, box: CompleteSandbox) -> None:
        """As those of whole files are."""
        await box.write("file", b"")
        for path, error in (("missing", FileNotFoundError), ("file", NotADirectoryError)):
            with pytest.raises(error):
                await box.list(path)
        with pytest.raises(FileNotFoundError):
            await box.stat("missing")
        with pytest.raises(NotADirectoryError):
            await box.stat("file/below")
        with pytest.raises(NotADirectoryError):
            await box.mkdir("file/below")

    async def test_names_of_any_bytes_do_no_harm(self, box: CompleteSandbox) -> None:
        """Spaces, line ends and invalid UTF-8."""
        await box.exec(r"""mkdir t; cd t; echo 1 >"a b"; echo 2 >"$(printf 'x\ny')"; echo 3 >"$(printf 'o\377dd')" """)
        names = [entry.name for entry in await box.list("t")]
        assert len(names) == 3
        assert {"a b", "x\ny"} < set(names)
        assert await box.read("t/a b") == b"1\n"
        assert await box.read("t/x\ny") == b"2\n"
        await box.remove("t", recursive=True)
        assert await box.list(".") == []
