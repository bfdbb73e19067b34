import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.contracts.sandbox_process import TerminalSize
from tumbler.errors import SandboxDied
from tumbler_backends.sandbox.bubblewrap.limits.cgroups import CgroupParent
from tumbler_backends.sandbox.bubblewrap.limits.freezing import _SignalFreezer, freezer_for

BURN = "import sys; a = bytearray(400 << 20); a[::4096] = b'x' * len(a[::4096]); sum(range(3_000_000))"


async def output(process, stream="stdout"):
    return b"".join([piece async for piece in process.follow(stream)])


async def until(holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def bwraps_below_this_process():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


# what commands cost


async def test_a_command_and_all_its_children_are_counted(box):
    quick = await box.exec(["true"])
    daemon = f'setsid python3 -I -c "{BURN}"; touch done'
    result = await box.exec(f"({daemon}) & exec >&- 2>&-; until [ -e done ]; do sleep 0.02; done; sleep 0.1")
    assert result.cpu_seconds > quick.cpu_seconds + 0.02


OWNER_OF_ONE_COMMAND = """
import asyncio, sys
from pathlib import Path
from tumbler.contracts.sandbox import SandboxSpec
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings

async def main():
    backend = BubblewrapBackend(BubblewrapSettings(root=Path(sys.argv[1])))
    await backend.start()
    box = await backend.create(SandboxSpec())
    for command in (["true"], ["python3", "-I", "-c", sys.argv[2]]):
        print((await box.exec(command)).max_rss_bytes)
    await backend.close()

asyncio.run(main())
"""


async def test_the_largest_memory_of_a_command_is_told(tmp_path):
    # In a process of its own, and not a direct child: an owner that has itself used more, or was forked by one that
    # has, hides what its commands use.
    words = (
        "sh",
        "-c",
        '"$@"; exit $?',
        "sh",
        sys.executable,
        "-c",
        OWNER_OF_ONE_COMMAND,
        str(tmp_path / "boxes"),
        BURN,
    )
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    quick, large = output.decode().split()
    assert quick == "None" or int(quick) < 400 << 20
    assert int(large) > 400 << 20


async def test_a_command_that_is_killed_for_its_time_is_counted_too(box):
    result = await box.exec("trap '' TERM; while :; do :; done", timeout=1)
    assert (result.timed_out, result.exit_code, result.signal) == (True, 137, 9)
    assert result.cpu_seconds > 0.05


async def test_dropped_bytes_are_counted_exactly(box):
    result = await box.exec("head -c 5000001 /dev/zero; head -c 70000 /dev/zero >&2", max_output=1000)
    assert (result.stdout_dropped, result.stderr_dropped, result.truncated) == (4999001, 69000, True)
    whole = await box.exec("echo whole")
    assert (whole.stdout_dropped, whole.stderr_dropped, whole.truncated) == (0, 0, False)


async def test_usage_sums_what_runs_and_what_has_ended(box):
    await box.exec(["python3", "-I", "-c", BURN])
    ended = await box.usage()
    assert ended.cpu_seconds > 0.02
    process = await box.spawn(f'python3 -I -c "{BURN}"; echo done; sleep 300')
    await process.read(timeout=60)
    running = await box.usage()
    assert running.cpu_seconds > ended.cpu_seconds
    assert running.processes >= 2
    assert running.memory_peak_bytes >= 400 << 20


# processes and the host


async def test_a_command_whose_bwrap_is_killed_from_outside_is_no_result(box):
    process = await box.spawn(["sleep", "300"])
    waiting = asyncio.create_task(process.wait(60))
    await asyncio.sleep(0)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(SandboxDied, match="signal 9") as died:
        await waiting
    assert died.value.cause == "killed"
    command = asyncio.create_task(box.exec("touch on; sleep 300", timeout=200))
    await until(lambda: bwraps_below_this_process() and (box._box.layout.root / "work/on").exists())
    for running in tuple(box._box._processes):
        os.kill(running.pid, signal.SIGKILL)
    with pytest.raises(SandboxDied):
        await command
    assert (await box.exec("echo usable")).stdout == b"usable\n"


async def test_an_idle_sandbox_has_no_process(box):
    for _ in range(5):
        await box.exec(["true"])
    assert box._box.busy is False
    await until(lambda: not box._box._processes)


async def test_a_spare_process_is_not_charged_and_carries_nothing_over(bubblewrap):
    sandbox = await bubblewrap.create(SandboxSpec(env={"A": "spec"}))
    pids = set()
    for number in range(12):
        result = await sandbox.exec("echo $A $B; ls /proc | grep -c '^[0-9]'; touch /dev/shm/left; ls /dev/shm | wc -l")
        assert result.stdout.splitlines()[0] == b"spec"
        assert result.stdout.splitlines()[2] == b"1", number
        assert int(result.stdout.splitlines()[1]) <= 6
        assert (await sandbox.usage()).processes == 0
        pids.add(bool(sandbox._box._spare.waits))
    assert pids == {True, False} or pids == {True}
    assert (await sandbox.exec("echo $B", env={"B": "call"})).stdout == b"call\n"
    await sandbox.delete()
    with pytest.raises(SandboxDied):
        await sandbox.exec("true")


async def test_pipes_of_a_spawned_process_cannot_be_opened_by_others(box):
    process = await box.spawn("cat", stdin=True)
    seen = await box.exec("ls /run/tumbler")
    await process.write_stdin(b"only mine\n")
    await process.close_stdin()
    assert await output(process) == b"only mine\n"
    assert len(seen.stdout.split()) == 3  # its own script and pipes


async def test_a_script_is_gone_after_its_command(box):
    await box.exec(["echo", "a secret word"])
    await box.exec(["sh", "-c", "exit 3", "another secret word"])
    assert b"secret" not in (await box.exec("cat /run/tumbler/*x; ls /run/tumbler")).stdout.replace(b"cat /run", b"")


async def test_a_descriptor_of_the_host_is_not_passed_on_to_a_spawned_process(box):
    process = await box.spawn("ls /proc/self/fd", stdin=True)
    assert (await output(process)).split() == [b"0", b"1", b"2", b"3"]


# terminals


async def test_a_terminal_is_the_sandboxes_own_and_controls_its_session(box):
    process = await box.spawn("tty; ls /dev/pts; echo x >/dev/tty; ps -o tty= -p $$", pty=TerminalSize())
    await process.wait(60)
    assert (await output(process)).split() == [b"/dev/pts/0", b"0", b"ptmx", b"x", b"pts/0"]


async def test_nothing_can_be_typed_into_a_terminal_from_inside(box):
    code = "import fcntl; fcntl.ioctl(0, 0x5412, b'x')"
    process = await box.spawn(["python3", "-I", "-c", code], pty=TerminalSize())
    assert (await process.wait(60)).exit_code == 1
    assert b"PermissionError" in await output(process)


async def until_said(process, word, offset=0):
    said = b""
    while word not in said:
        piece = await process.read(offset=offset + len(said), timeout=60)
        assert not piece.end, said
        said += piece.data
    return offset + len(said)


async def test_job_control_works_in_a_terminal(box):
    process = await box.spawn(["bash", "--norc", "-i"], pty=TerminalSize())
    await process.write_stdin(b"PS1='> '; sh -c 'echo up; exec sleep 300'\n")
    place = await until_said(process, b"\rup\r\n")
    await process.write_stdin(b"\x03")
    place = await until_said(process, b"> ", place)
    await process.write_stdin(b"echo $((20+3))\n")
    place = await until_said(process, b"\r23\r\n", place)
    await process.write_stdin(b"exit 7\n")
    assert (await process.wait(60)).exit_code == 7


async def test_the_end_of_input_can_be_typed(box):
    process = await box.spawn(["cat"], pty=TerminalSize())
    await process.write_stdin(b"line\n")
    await until_said(process, b"line\r\nline\r\n")
    await process.close_stdin()
    assert (await process.wait(60)).exit_code == 0
    with pytest.raises(BrokenPipeError):
        await process.write_stdin(b"more")
    await process.close_stdin()


# pausing


async def paused_and_resumed(box):
    beating = asyncio.create_task(box.exec("while :; do date +%N >beat; sleep 0.02; done", timeout=1.5))
    beat = box._box.layout.root / "work/beat"
    await until(beat.exists)
    await box.pause()
    await box.pause()
    before = beat.read_text()
    late = asyncio.create_task(box.exec(["echo", "late"]))
    await asyncio.sleep(2)
    assert (beat.read_text(), late.done(), beating.done()) == (before, False, False)
    await box.resume()
    assert (await late).stdout == b"late\n"
    await until(lambda: beat.read_text() != before)
    assert (await beating).timed_out


async def test_a_paused_sandbox_stands_still_and_its_time_with_it(box):
    await paused_and_resumed(box)


async def test_without_a_freezer_signals_do(box):
    box._box._freezer = _SignalFreezer(box._box._members)
    await paused_and_resumed(box)


async def test_pauses_in_the_middle_of_starts_lose_nothing(box):
    commands = [asyncio.create_task(box.exec(f"echo {number}")) for number in range(20)]
    for _ in range(8):
        await box.pause()
        await asyncio.sleep(0.02)
        await box.resume()
        await asyncio.sleep(0.01)
    results = await asyncio.gather(*commands)
    assert [result.stdout for result in results] == [b"%d\n" % number for number in range(20)]


def test_the_freezer_of_cgroups_v2_is_used_where_it_is(tmp_path):
    parent = CgroupParent(folder=tmp_path, controllers=frozenset({"pids", "memory"}), version=2)
    freezer = freezer_for("box", {tmp_path: parent}, list)
    freezer.freeze()
    group = tmp_path / "box"
    group.mkdir()
    (group / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    freezer.freeze()
    assert (group / "cgroup.freeze").read_text() == "1"
    freezer.thaw()
    assert (group / "cgroup.freeze").read_text() == "0"


async def test_what_is_paused_can_be_killed_and_deleted(bubblewrap):
    sandbox = await bubblewrap.create(SandboxSpec())
    session = await sandbox.session()
    process = await sandbox.spawn(["sleep", "300"])
    command = asyncio.create_task(sandbox.exec(["sleep", "300"], timeout=200))
    await until(lambda: len(sandbox._box._processes) == 3)
    await asyncio.sleep(0.2)
    await sandbox.pause()
    async with asyncio.timeout(8):
        await session.close()
        assert (await process.kill()).exit_code == 137
        await sandbox.delete()
    with pytest.raises(SandboxDied):
        await command


# bounds


async def test_an_argument_that_no_process_can_have_is_126(box):
    for words in (["printf", "%s", "x" * (1 << 20)], ["sh", "-c", ": " + "x" * (1 << 20)]):
        result = await box.exec(words)
        assert result.exit_code == 126
        assert b"too long" in result.stderr


async def test_many_arguments_arrive_and_every_byte_does(box):
    words = ["x" * 100_000, *(chr(number) for number in range(1, 127)), os.fsdecode(bytes(range(128, 256)))]
    result = await box.exec(["printf", "%s", *words])
    assert result.stdout == b"".join(os.fsencode(word) for word in words)


async def test_a_flood_of_a_gibibyte_is_read_to_its_end(box):
    flood = "head -c 1073741824 /dev/zero; echo end >&2"
    result = await box.exec(flood, timeout=200, max_output=1 << 20)
    assert (result.exit_code, result.stdout_dropped, result.stderr) == (0, (1 << 30) - (1 << 20), b"end\n")
    session = await box.session()
    result = await session.run(flood, timeout=200, max_output=1 << 20)
    assert (result.exit_code, result.stdout_dropped, result.stderr) == (0, (1 << 30) - (1 << 20), b"end\n")
    await session.close()
    process = await box.spawn(flood, max_output=1 << 20)
    assert (await process.wait(200)).exit_code == 0
    assert (await process.read(limit=1)).offset == (1 << 30) - (1 << 20)
