from pathlib import Path

import pytest

from tumbler.errors import SessionEnded
from tumbler_backends.sandbox.posix.session import ProcessSession
from tumbler_backends.sandbox.posix.spawner import Spawner


async def test_nothing_of_a_session_is_left(spawner: Spawner) -> None:
    before = set(Path("/tmp").glob(".tumbler-*"))
    session = await ProcessSession.open(spawner)
    await session.run("sleep 300 & echo on")
    await session.run("echo two")
    assert (await session.run("sleep 300", timeout=0.2)).timed_out
    await session.run("echo three")
    folders = set(Path("/tmp").glob(".tumbler-*")) - before
    await session.close()
    assert not folders & set(Path("/tmp").glob(".tumbler-*"))


async def test_an_ended_session_keeps_what_was_said(spawner: Spawner) -> None:
    session = await ProcessSession.open(spawner)
    with pytest.raises(SessionEnded) as ended:
        await session.run("echo last words; exit 5")
    assert ended.value.exit_status == 5
    assert ended.value.partial is not None
    assert ended.value.partial.stdout == b"last words\n"
    await session.close()


async def test_a_session_survives_what_commands_do_to_their_shell(spawner: Spawner) -> None:
    session = await ProcessSession.open(spawner)
    for command in ("set -x", "set +x; set -C", "exec 2>&1", "exec 3>&1", "PATH=/nowhere", "trap 'echo x' DEBUG"):
        assert not (await session.run(command, timeout=20)).timed_out, command
    result = await session.run("trap - DEBUG; builtin echo on")
    assert result.stdout.endswith(b"on\n")
    await session.close()
