"""The part of the complete sandbox suite about steering processes: stdin, signals, terminals."""

import pytest

from tumbler.contracts.sandbox_control import CompleteSandbox, ManagedBackend
from tumbler.contracts.sandbox_process import Process, TerminalSize
from tumbler.errors import CapabilityError
from tumbler.testing.sandbox_fixtures import LONG_S, CompleteFixtures
from tumbler.testing.sandbox_spawn import read_to_end

__all__ = ["SteeringTests"]

_USR1 = 10


@pytest.mark.asyncio(loop_scope="class")
class SteeringTests(CompleteFixtures):
    """What reaches a running process."""

    # stdin

    async def test_stdin_takes_bytes_until_it_is_closed(self, box: CompleteSandbox) -> None:
        """All of them arrive, also more than a pipe holds."""
        process = await box.spawn("wc -c", stdin=True)
        for _ in range(8):
            await process.write_stdin(bytes(range(256)) * 1000)
        await process.close_stdin()
        await process.close_stdin()
        assert (await process.wait(LONG_S)).exit_code == 0
        assert (await read_to_end(process)).strip() == b"2048000"

    async def test_stdin_is_at_its_end_unless_it_is_asked_for(self, box: CompleteSandbox) -> None:
        """A command that reads it does not wait."""
        process = await box.spawn(["cat"])
        assert (await process.wait(LONG_S)).exit_code == 0

    async def test_stdin_of_an_ended_process_is_a_broken_pipe(self, box: CompleteSandbox) -> None:
        """Nothing is swallowed."""
        process = await box.spawn(["true"], stdin=True)
        await process.wait(LONG_S)
        with pytest.raises(BrokenPipeError):
            await process.write_stdin(b"x")
        await process.close_stdin()

    # signals

    async def test_a_signal_reaches_the_process_and_its_children(self, box: CompleteSandbox) -> None:
        """And what handles it lives on."""
        child = "trap 'echo child; exit 5' USR1; echo ready; while :; do sleep 0.02; done"
        process = await box.spawn(f'trap "echo parent" USR1; sh -c "{child}" & wait $!; wait $!; exit 6')
        await _until_said(process, b"ready")
        await process.signal(_USR1)
        assert (await process.wait(LONG_S)).exit_code == 6
        assert set((await read_to_end(process)).split()) == {b"ready", b"parent", b"child"}

    async def test_a_deadly_signal_is_the_end(self, box: CompleteSandbox) -> None:
        """Afterwards signals do nothing."""
        process = await box.spawn(["sleep", str(LONG_S)])
        await process.signal(9)
        ended = await process.wait(LONG_S)
        assert (ended.exit_code, ended.signal) == (137, 9)
        await process.signal(9)

    # terminals

    async def test_a_terminal_has_the_size_that_was_asked_for(
        self, managed: ManagedBackend, box: CompleteSandbox
    ) -> None:
        """Stderr comes on stdout, and the size can be changed; where there are none, asking is refused."""
        command = 'stty size; echo err >&2; until [ "$(stty size)" = "50 132" ]; do sleep 0.02; done; echo resized'
        if not managed.capabilities.pty:
            with pytest.raises(CapabilityError):
                await box.spawn(command, pty=TerminalSize(columns=100, rows=30))
            return
        process = await box.spawn(command, pty=TerminalSize(columns=100, rows=30))
        await _until_said(process, b"err")
        await process.resize(TerminalSize(columns=132, rows=50))
        assert (await process.wait(LONG_S)).exit_code == 0
        assert (await read_to_end(process)).split() == [b"30", b"100", b"err", b"resized"]
        assert await read_to_end(process, "stderr") == b""

    async def test_a_terminal_takes_keys(self, managed: ManagedBackend, box: CompleteSandbox) -> None:
        """Lines are echoed, and Ctrl-C interrupts."""
        if not managed.capabilities.pty:
            with pytest.raises(CapabilityError):
                await box.spawn(["cat"], pty=TerminalSize())
            return
        process = await box.spawn("test -t 0 && test -t 1 && echo terminal; exec cat", pty=TerminalSize())
        await _until_said(process, b"terminal")
        await process.write_stdin(b"typed\n")
        await _until_said(process, b"typed\r\ntyped\r\n")
        await process.write_stdin(b"\x03")
        assert (await process.wait(LONG_S)).exit_code == 130

    async def test_without_a_terminal_there_is_no_size(self, box: CompleteSandbox) -> None:
        """As the contract says."""
        process = await box.spawn(["sleep", str(LONG_S)])
        with pytest.raises(CapabilityError):
            await process.resize(TerminalSize())
        await process.kill()


async def _until_said(process: Process, word: bytes) -> None:
    said = b""
    while word not in said:
        piece = await process.read(offset=len(said), timeout=LONG_S)
        said += piece.data
        assert not piece.end, f"the process ended after {said!r}"
