import asyncio

import pytest

from tumbler.contracts.sandbox import Resources, SandboxSpec
from tumbler.errors import SessionEnded

MEMORY_BOMB = ["python3", "-I", "-c", "print('on', flush=True); b'x' * (1 << 30)"]
SMALL = SandboxSpec(resources=Resources(memory_bytes=64 << 20, processes=40))
FORK_BOMB = "bomb() { bomb | bomb & }; bomb; sleep 300"


@pytest.mark.parametrize(
    "command",
    [
        "sleep 300",
        "while :; do :; done",
        "for i in 1 2 3; do sleep 100; echo $i; done; echo after",
        "sleep 300 | cat",
        "python3 -I -c 'while True: pass'",
        "(while :; do sleep 1; done)",
    ],
)
async def test_an_interrupt_ends_loops_and_children_and_keeps_the_state(box, command):
    session = await box.session()
    await session.run("X=kept; f() { echo f; }; sleep 300 & bg=$!")
    running = asyncio.create_task(session.run(f"touch on; {command}", timeout=200))
    while (await box.exec(["test", "-e", "on"])).exit_code != 0:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    await session.interrupt()
    result = await running
    assert (result.exit_code, result.timed_out, result.stdout) == (130, False, b"")
    later = await session.run("echo $? $X; f; kill -0 $bg && echo background")
    assert later.stdout == b"130 kept\nf\nbackground\n"
    await session.close()


async def test_an_interrupt_may_be_repeated_many_times(box):
    session = await box.session()
    for number in range(30):
        await session.start("echo on; while :; do :; done", timeout=200)
        await session.expect(b"on", timeout=60)
        await session.interrupt()
        assert (await session.finish()).exit_code == 130
        assert (await session.run(f"echo {number}")).stdout == b"%d\n" % number
    await session.close()


async def test_a_trap_of_the_commands_own_is_theirs(box):
    session = await box.session()
    await session.run("trap 'echo mine; exit 9' INT")
    await session.start("echo on; while :; do :; done", timeout=200)
    await session.expect(b"on", timeout=60)
    await session.interrupt()
    result = await session.finish()
    assert (result.exit_code, result.stdout) == (9, b"on\nmine\n")
    assert (await session.run("echo again")).stdout == b"again\n"
    await session.close()


async def test_no_number_of_loops_left_at_once_ends_the_session(box):
    session = await box.session()
    for word in ("break 99", "continue 99", "break 2"):
        await session.run(word)
        assert (await session.run("echo on")).stdout == b"on\n"
    await session.close()


async def test_the_output_of_the_command_that_ended_the_session_is_not_lost(box):
    session = await box.session()
    with pytest.raises(SessionEnded) as ended:
        await session.run("echo last words; echo err >&2; exit 5")
    partial = ended.value.partial
    assert (partial.stdout, partial.stderr, partial.exit_code) == (b"last words\n", b"err\n", 5)


async def test_a_command_that_never_reads_does_not_keep_finish_waiting(box):
    session = await box.session()
    await session.start("sleep 300", timeout=1.0)
    sending = asyncio.create_task(session.send(bytes(1 << 20)))
    assert (await session.finish()).timed_out
    with pytest.raises(BrokenPipeError):
        await sending
    assert (await session.run("echo on")).stdout == b"on\n"
    await session.close()


async def test_closing_ends_a_started_command(box):
    session = await box.session()
    await session.start("echo on; sleep 300", timeout=200)
    await session.expect(b"on", timeout=60)
    await session.close()
    with pytest.raises(SessionEnded):
        await session.finish()


# bombs


async def test_a_memory_bomb_is_told_in_every_way_to_run_it(bubblewrap):
    sandbox = await bubblewrap.create(SMALL)
    result = await sandbox.exec(MEMORY_BOMB, timeout=100)
    assert (result.exit_code, result.signal, result.oom, result.stdout) == (137, 9, True, b"on\n")
    process = await sandbox.spawn(MEMORY_BOMB)
    ended = await process.wait(100)
    assert (ended.exit_code, ended.signal, ended.oom) == (137, 9, True)
    session = await sandbox.session()
    result = await session.run("python3 -I -c 'b\"x\" * (1 << 30)'", timeout=100)
    assert (result.exit_code, result.oom) == (137, True)
    later = await session.run("exit_with() { return $1; }; exit_with 3", timeout=100)
    assert (later.exit_code, later.oom) == (3, False)
    with pytest.raises(SessionEnded, match="out of memory") as died:
        await session.run("x=$(printf '%0100d' 0); while :; do x=$x$x; done", timeout=100)
    assert died.value.partial.oom
    assert (await sandbox.exec("echo usable")).stdout == b"usable\n"
    await sandbox.delete()


async def test_a_fork_bomb_ends_with_the_timeout_and_the_sandbox_stays_usable(bubblewrap):
    sandbox = await bubblewrap.create(SMALL)
    result = await sandbox.exec(["bash", "-c", FORK_BOMB], timeout=1)
    assert result.exit_code != 0
    assert (await sandbox.exec("echo usable")).stdout == b"usable\n"
    session = await sandbox.session()
    await session.run(FORK_BOMB, timeout=1)
    await session.close()
    process = await sandbox.spawn(["bash", "-c", FORK_BOMB], timeout=1)
    assert (await process.wait(60)).exit_code != 0
    assert (await sandbox.exec("echo usable")).stdout == b"usable\n"
    assert (await sandbox.usage()).processes == 0
    await sandbox.delete()
