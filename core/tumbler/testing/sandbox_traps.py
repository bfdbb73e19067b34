"""The part of the complete sandbox suite about traps in a sandbox's tree: the host's files stay out of reach."""

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tumbler.contracts.sandbox_control import CompleteSandbox
from tumbler.errors import PolicyDenied
from tumbler.testing.sandbox_fixtures import CompleteFixtures

__all__ = ["TrapTests"]

_SECRET = b"the host's secret"


@dataclass(frozen=True)
class _Host:
    """A folder of the host with a secret in it, and links in a sandbox that try to reach it."""

    folder: Path
    places: tuple[str, ...]
    """Paths inside that would be `folder` if one of them led out."""

    def content(self) -> dict[str, bytes]:
        return {entry.name: entry.read_bytes() for entry in self.folder.iterdir()}


@pytest.mark.asyncio(loop_scope="class")
class TrapTests(CompleteFixtures):
    """Links, `..` and pipes planted by untrusted code, against everything that the host does with files.

    What a path inside means there is the sandbox's own business: it may exist, and then it is another file.
    """

    @pytest.fixture
    def host(self, tmp_path: Path) -> Iterator[_Host]:
        """Plan the traps, and see afterwards that the host's folder is as it was."""
        folder = tmp_path / "host"
        folder.mkdir()
        (folder / "secret").write_bytes(_SECRET)
        # The second: made on the way, a missing folder must not turn the rest into a way up.
        climbing = (f"../../../../../../../../../..{folder}", f"missing/{'../' * 30}{folder}")
        host = _Host(folder, (*climbing, "absolute", "relative", f"root{folder}", f"process{folder}"))
        yield host
        assert host.content() == {"secret": _SECRET}

    async def test_nothing_is_read_through_a_trap(self, box: CompleteSandbox, host: _Host) -> None:
        """Whole or as a stream."""
        await _plant(box, host)
        for place in host.places:
            found = b""
            with suppress(OSError, PolicyDenied):
                found += await box.read(f"{place}/secret")
            with suppress(OSError, PolicyDenied):
                found += b"".join([piece async for piece in box.read_stream(f"{place}/secret")])
            assert _SECRET not in found, place

    async def test_nothing_is_listed_through_a_trap(self, box: CompleteSandbox, host: _Host) -> None:
        """Neither names nor sizes."""
        await _plant(box, host)
        for place in host.places:
            with suppress(OSError, PolicyDenied):
                assert "secret" not in [entry.name for entry in await box.list(place, depth=2)], place
            with pytest.raises((OSError, PolicyDenied)):
                await box.stat(f"{place}/secret")

    async def test_nothing_is_changed_through_a_trap(self, box: CompleteSandbox, host: _Host) -> None:
        """The fixture compares the folder afterwards."""
        await _plant(box, host)

        async def pieces() -> AsyncIterator[bytes]:
            yield b"planted"

        await box.write("own", b"planted")
        for place in host.places:
            for attempt in (
                box.write(f"{place}/planted", b"planted"),
                box.write(f"{place}/secret", b"planted"),
                box.write_stream(f"{place}/streamed", pieces()),
                box.mkdir(f"{place}/folder"),
                box.move("own", f"{place}/moved"),
                box.move(f"{place}/secret", "stolen"),
                box.remove(f"{place}/secret"),
                box.remove(f"{place}/.", recursive=True),
            ):
                with suppress(OSError, PolicyDenied):
                    await attempt
        for name in ("stolen", "own"):
            with suppress(OSError, PolicyDenied):
                assert await box.read(name) != _SECRET

    async def test_a_link_in_the_last_place_is_replaced(self, box: CompleteSandbox, host: _Host) -> None:
        """And not written through."""
        await box.exec(["ln", "-s", f"{host.folder}/secret", "link"])
        await box.write("link", b"own")
        assert (await box.stat("link")).kind == "file"
        assert await box.read("link") == b"own"

    async def test_a_pipe_in_the_way_blocks_nobody(self, box: CompleteSandbox) -> None:
        """It is described, replaced, moved and removed like any entry."""
        await box.exec("mkfifo pipe other third")
        assert (await box.stat("pipe")).kind == "other"
        await box.write("pipe", b"file now")
        await box.move("other", "moved")
        await box.remove("third")
        assert [(entry.name, entry.kind) for entry in await box.list(".")] == [("moved", "other"), ("pipe", "file")]

    async def test_a_loop_of_links_is_an_error(self, box: CompleteSandbox) -> None:
        """And no endless walk."""
        await box.exec("ln -s b a; ln -s a b; mkdir t; ln -s . t/self")
        with pytest.raises(OSError, match="a"):
            await box.read("a/file")
        assert [entry.name for entry in await box.list("t", depth=9)] == ["self"]


async def _plant(box: CompleteSandbox, host: _Host) -> None:
    relative = "/".join([".."] * 12) + str(host.folder)
    links = {"absolute": str(host.folder), "relative": relative, "root": "/", "process": "/proc/1/root"}
    for name, target in links.items():
        await box.exec(["ln", "-s", target, name], check=True)
