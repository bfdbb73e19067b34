"""The part of the complete sandbox suite about `spawn`: ids, output, ends; knows no stdin and no terminal."""

import asyncio
import hashlib

import pytest

from tumbler.contracts.sandbox_control import CompleteSandbox, ManagedBackend
from tumbler.contracts.sandbox_process import OutputSlice, Process, ProcessExit, Stream
from tumbler.errors import SandboxDied
from tumbler.testing.sandbox_fixtures import LONG_S, Boxes, CompleteFixtures, assert_still, until_exists

__all__ = ["SpawnTests", "read_to_end"]

_MARKED = r"cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep -c '^TUMBLER_SUITE_MARK='"


@pytest.mark.asyncio(loop_scope="class")
class SpawnTests(CompleteFixtures):
    """Processes that are started once, and read and awaited from anywhere."""

    # ids

    async def test_a_spawned_process_is_known_by_its_id(self, box: CompleteSandbox) -> None:
        """While it runs and after its end."""
        process = await box.spawn(["sh", "-c", "read x; exit 3"], exec_id="build", tag="mine", stdin=True)
        assert process.exec_id == "build"
        assert isinstance(process, Process)
        (running,) = await box.processes()
        assert (running.exec_id, running.tag, running.exit) == ("build", "mine", None)
        assert running.command == ("sh", "-c", "read x; exit 3")
        await (await box.process("build")).write_stdin(b"\n")
        assert (await process.wait(LONG_S)).exit_code == 3
        (ended,) = await box.processes()
        assert ended.exit is not None
        assert ended.exit.exit_code == 3

    async def test_starting_an_id_twice_starts_one_process(self, box: CompleteSandbox) -> None:
        """At the same time, one after the other, and after its end."""
        command = "echo x >>count; echo once"
        await asyncio.gather(*(box.spawn(command, exec_id="one") for _ in range(5)))
        again = await box.spawn(command, exec_id="one")
        assert (await again.wait(LONG_S)).exit_code == 0
        late = await box.spawn(command, exec_id="one")
        assert await read_to_end(late) == b"once\n"
        assert await box.read("count") == b"x\n"
        assert len(await box.processes()) == 1

    async def test_processes_without_an_id_get_one_each(self, box: CompleteSandbox) -> None:
        """In the order of their starts."""
        spawned = [await box.spawn(["true"]) for _ in range(3)]
        ids = [process.exec_id for process in spawned]
        assert len(set(ids)) == 3
        assert [info.exec_id for info in await box.processes()] == ids

    async def test_an_unknown_id_is_no_process(self, box: CompleteSandbox) -> None:
        """The builtin class says so."""
        with pytest.raises(ProcessLookupError):
            await box.process("nobody")

    # output

    async def test_streams_are_read_from_any_offset(self, box: CompleteSandbox) -> None:
        """Reading takes nothing away."""
        process = await box.spawn("printf 0123456789; printf err >&2")
        await process.wait(LONG_S)
        assert await read_to_end(process) == b"0123456789"
        assert await read_to_end(process, "stderr") == b"err"
        piece = await process.read(offset=4, limit=3)
        assert (piece.data, piece.offset) == (b"456", 4)
        last = await process.read(offset=10)
        assert (last.data, last.end) == (b"", True)
        assert await read_to_end(process) == b"0123456789"

    async def test_reading_waits_for_output_and_no_longer(self, box: CompleteSandbox) -> None:
        """What did not come in time is an empty piece, and no end."""
        process = await box.spawn("read x; echo came", stdin=True)
        empty = await process.read(timeout=0.1)
        assert (empty.data, empty.end) == (b"", False)
        waiting = asyncio.create_task(process.read(timeout=LONG_S))
        await asyncio.sleep(0.1)
        await process.write_stdin(b"\n")
        assert (await waiting).data == b"came\n"

    async def test_following_yields_everything_to_the_end(self, box: CompleteSandbox) -> None:
        """From the beginning and from an offset, to any number of readers."""
        process = await box.spawn("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done")
        expected = b"".join(b"line %d\n" % number for number in range(20000))
        whole, rest = await asyncio.gather(_follow(process), _follow(process, offset=100_000))
        assert _digest(whole) == _digest(expected)
        assert _digest(rest) == _digest(expected[100_000:])

    async def test_the_latest_output_is_kept_and_its_place_is_told(self, box: CompleteSandbox) -> None:
        """What was thrown away is not passed off as nothing."""
        process = await box.spawn("seq 1 10000; echo end", max_output=1000)
        await process.wait(LONG_S)
        whole = b"".join(b"%d\n" % number for number in range(1, 10001)) + b"end\n"
        first = await process.read(limit=100)
        assert first.offset == len(whole) - 1000
        assert first.data == whole[-1000:-900]
        assert await read_to_end(process) == whole[-1000:]

    async def test_output_of_any_bytes_passes_through(self, box: CompleteSandbox) -> None:
        """NUL and invalid UTF-8 too."""
        process = await box.spawn(r"printf '\000\377\376\200\n'; printf '\303' >&2")
        await process.wait(LONG_S)
        assert await read_to_end(process) == b"\0\xff\xfe\x80\n"
        assert await read_to_end(process, "stderr") == b"\xc3"

    async def test_many_processes_keep_their_own_output(self, box: CompleteSandbox) -> None:
        """A burst mixes nothing up."""
        spawned = await asyncio.gather(*(box.spawn(f"echo {number}") for number in range(20)))
        outputs = await asyncio.gather(*(_follow(process) for process in spawned))
        assert outputs == [b"%d\n" % number for number in range(20)]

    # ends

    async def test_an_end_is_kept(self, box: CompleteSandbox) -> None:
        """Exit code or signal, for whoever asks, and whenever."""
        ended = await box.spawn("exit 7", exec_id="code")
        killed = await box.spawn("kill -9 $$", exec_id="signal")
        await asyncio.gather(ended.wait(LONG_S), killed.wait(LONG_S))
        code = await (await box.process("code")).poll()
        signal = await (await box.process("signal")).poll()
        assert code is not None
        assert signal is not None
        assert (code.exit_code, code.signal) == (7, None)
        assert (signal.exit_code, signal.signal) == (137, 9)

    async def test_waiting_has_a_bound_and_leaves_the_process_running(self, box: CompleteSandbox) -> None:
        """`poll` tells at once."""
        process = await box.spawn(["sleep", str(LONG_S)])
        with pytest.raises(TimeoutError):
            await process.wait(0.1)
        assert await process.poll() is None
        ended = await process.kill()
        assert ended.exit_code != 0
        assert await process.poll() == ended == await process.wait(LONG_S) == await process.kill()

    async def test_a_missing_binary_is_an_exit_code_here_too(self, box: CompleteSandbox) -> None:
        """127, and 126 for what cannot be executed."""
        await box.write("plain", b"true\n")
        missing, plain = await box.spawn(["no-such-binary"]), await box.spawn(["./plain"])
        assert (await missing.wait(LONG_S)).exit_code == 127
        assert (await plain.wait(LONG_S)).exit_code == 126

    async def test_a_process_past_its_timeout_is_killed(self, box: CompleteSandbox) -> None:
        """Nobody has to be waiting."""
        process = await box.spawn(f"echo partial; sleep {LONG_S}", timeout=0.5)
        ended = await process.wait(LONG_S)
        assert ended.timed_out
        assert ended.exit_code != 0
        assert await read_to_end(process) == b"partial\n"

    async def test_killing_ends_the_whole_tree(self, box: CompleteSandbox) -> None:
        """Also what ignores SIGTERM, changed its session and forked twice."""
        daemon = "trap '' TERM; while :; do date +%N >beat; sleep 0.02; done"
        command = f'(setsid sh -c "$1" >/dev/null 2>&1 &); sleep {LONG_S}'
        process = await box.spawn(["sh", "-c", command, "sh", daemon])
        await until_exists(box, "beat")
        await process.kill()
        await assert_still(box, "beat")

    async def test_deleting_the_sandbox_ends_its_processes(self, boxes: Boxes) -> None:
        """Whoever waits is told, and later use is refused."""
        box = await boxes.complete()
        process = await box.spawn(["sleep", str(LONG_S)])
        waiting = asyncio.create_task(process.wait(LONG_S))
        await asyncio.sleep(0.1)
        await box.delete()
        (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
        assert isinstance(outcome, SandboxDied) or (isinstance(outcome, ProcessExit) and outcome.exit_code != 0)
        with pytest.raises(SandboxDied):
            await box.spawn(["true"])

    # surroundings

    async def test_place_and_variables_are_set(self, box: CompleteSandbox) -> None:
        """As for `exec`."""
        await box.mkdir("sub")
        process = await box.spawn('basename "$PWD"; echo "$X"', cwd="sub", env={"X": "a b"})
        assert await _follow(process) == b"sub\na b\n"
        with pytest.raises(FileNotFoundError):
            await box.spawn(["true"], cwd="no/such/folder")

    async def test_commands_see_spawned_processes_where_they_are_shared(
        self, managed: ManagedBackend, box: CompleteSandbox
    ) -> None:
        """As the capability says."""
        process = await box.spawn(f"echo up; exec sleep {LONG_S}", env={"TUMBLER_SUITE_MARK": "1"})
        await process.read(timeout=LONG_S)
        seen = int((await box.exec(_MARKED)).stdout)
        assert (seen > 0) == managed.capabilities.shared_processes

    async def test_a_process_outlives_its_cancelled_caller(self, box: CompleteSandbox) -> None:
        """It is found again by its id, with all its output."""
        started = asyncio.Event()

        async def caller() -> None:
            process = await box.spawn("echo before; read x; echo after", exec_id="kept", stdin=True)
            await process.read(timeout=LONG_S)
            started.set()
            await process.wait(LONG_S)

        task = asyncio.create_task(caller())
        await started.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        process = await box.process("kept")
        assert await process.poll() is None
        await process.write_stdin(b"\n")
        assert (await process.wait(LONG_S)).exit_code == 0
        assert await read_to_end(process) == b"before\nafter\n"

    async def test_a_start_whose_caller_is_cancelled_happens_once_or_not_at_all(self, box: CompleteSandbox) -> None:
        """Asking again under the same id is safe."""
        task = asyncio.create_task(box.spawn("echo x >>count", exec_id="cut"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        process = await box.spawn("echo x >>count", exec_id="cut")
        await process.wait(LONG_S)
        assert await box.read("count") == b"x\n"


async def read_to_end(process: Process, stream: Stream = "stdout") -> bytes:
    """Return all that is kept of a stream, read piece by piece."""
    pieces: list[bytes] = []
    offset = 0
    while True:
        piece: OutputSlice = await process.read(stream, offset=offset, timeout=LONG_S)
        pieces.append(piece.data)
        offset = piece.offset + len(piece.data)
        if piece.end:
            return b"".join(pieces)


async def _follow(process: Process, *, offset: int = 0) -> bytes:
    return b"".join([piece async for piece in process.follow(offset=offset)])


def _digest(content: bytes) -> tuple[int, str]:
    """Return what tells contents apart, short enough for a failed assertion."""
    return len(content), hashlib.sha256(content).hexdigest()
