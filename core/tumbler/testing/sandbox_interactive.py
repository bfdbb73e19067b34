"""The part of the complete sandbox suite about talking to a session's running command."""

import asyncio

import pytest

from tumbler.contracts.sandbox import Session
from tumbler.contracts.sandbox_control import CompleteSandbox
from tumbler.contracts.sandbox_process import InteractiveSession
from tumbler.testing.sandbox_fixtures import LONG_S, CompleteFixtures, until_exists

__all__ = ["InteractiveTests"]


@pytest.mark.asyncio(loop_scope="class")
class InteractiveTests(CompleteFixtures):
    """`start`, `send`, `expect`, `interrupt`, `finish`."""

    async def test_a_dialogue_with_a_command(self, session: Session) -> None:
        """What `expect` returned comes no second time; the result has all."""
        talk = _interactive(session)
        await talk.start("printf 'name? '; read name; printf 'age? '; read age; echo \"$name is $age\"")
        assert await talk.expect(rb"na.e\? ", timeout=LONG_S) == b"name? "
        await talk.send(b"joe\n")
        assert await talk.expect(rb"\? ", timeout=LONG_S) == b"age? "
        await talk.send(b"7\n")
        result = await talk.finish()
        assert (result.exit_code, result.stdout) == (0, b"name? age? joe is 7\n")

    async def test_expect_has_a_bound_and_tells_of_the_end(self, session: Session) -> None:
        """The command goes on after the one, and its result is there after the other."""
        talk = _interactive(session)
        await talk.start("echo one; read x; echo two; (exit 4)")
        with pytest.raises(TimeoutError):
            await talk.expect(b"two", timeout=0.2)
        await talk.send(b"\n")
        with pytest.raises(EOFError):
            await talk.expect(b"three", timeout=LONG_S)
        result = await talk.finish()
        assert (result.exit_code, result.stdout) == (4, b"one\ntwo\n")

    async def test_finish_ends_stdin(self, session: Session) -> None:
        """All that was sent has arrived."""
        talk = _interactive(session)
        await talk.start("cat")
        await talk.send(b"some\n")
        await talk.send(bytes(100_000))
        result = await talk.finish()
        assert (result.exit_code, result.stdout) == (0, b"some\n" + bytes(100_000))

    async def test_a_started_command_changes_the_session(self, session: Session) -> None:
        """Directory and variables, exported or not."""
        talk = _interactive(session)
        await talk.start("mkdir -p sub; cd sub; X=1; export Y=2")
        await talk.finish()
        assert (await session.run('basename "$PWD"; echo "$X$Y"')).stdout == b"sub\n12\n"

    async def test_nobody_takes_input_where_nothing_was_started(self, session: Session) -> None:
        """A command of `run` has no stdin."""
        with pytest.raises(BrokenPipeError):
            await _interactive(session).send(b"x")
        await session.run("true")
        with pytest.raises(BrokenPipeError):
            await _interactive(session).send(b"x")

    async def test_an_interrupt_ends_the_command_and_not_the_session(self, session: Session) -> None:
        """Not even variables are lost."""
        await session.run("X=kept")
        talk = _interactive(session)
        await talk.start(f"echo on; sleep {LONG_S}", timeout=LONG_S)
        await talk.expect(b"on", timeout=LONG_S)
        await talk.interrupt()
        result = await talk.finish()
        assert (result.exit_code, result.timed_out, result.stdout) == (130, False, b"on\n")
        assert (await session.run("echo $X")).stdout == b"kept\n"

    async def test_a_waiting_run_can_be_interrupted(self, box: CompleteSandbox) -> None:
        """From another task."""
        session = await box.session()
        running = asyncio.create_task(session.run(f"X=kept; touch on; sleep {LONG_S}", timeout=LONG_S))
        await until_exists(box, "on")
        await _interactive(session).interrupt()
        assert (await running).exit_code == 130
        assert (await session.run("echo $X")).stdout == b"kept\n"
        await session.close()

    async def test_an_interrupt_ends_loops_too(self, session: Session) -> None:
        """Of programs, whatever runs when it comes, and of builtins alone."""
        for turn in ("sleep 0.01", ":"):
            talk = _interactive(session)
            await talk.start(f"X=kept; echo on; while :; do {turn}; done; echo after", timeout=LONG_S)
            await talk.expect(b"on", timeout=LONG_S)
            await talk.interrupt()
            result = await talk.finish()
            assert (result.exit_code, result.timed_out) == (130, False)
            assert (await session.run("echo $X")).stdout == b"kept\n"

    async def test_interrupts_at_any_moment_leave_a_session_whole(self, session: Session) -> None:
        """Also where a command ends just then."""
        for number in range(20):
            talk = _interactive(session)
            await talk.start(f"sleep 0.01; echo {number}", timeout=LONG_S)
            await talk.interrupt()
            assert (await talk.finish()).exit_code in (0, 130)
            result = await session.run(f"echo {number}")
            assert (result.exit_code, result.stdout) == (0, f"{number}\n".encode())

    async def test_an_interrupt_of_nothing_does_nothing(self, session: Session) -> None:
        """The shell itself is not hit."""
        await session.run("X=kept")
        await _interactive(session).interrupt()
        assert (await session.run("echo $X")).stdout == b"kept\n"

    async def test_a_started_command_is_bounded_too(self, session: Session) -> None:
        """Nothing of it is in a later result."""
        talk = _interactive(session)
        await talk.start(f"echo old; sleep {LONG_S}", timeout=0.5)
        result = await talk.finish()
        assert (result.timed_out, result.stdout) == (True, b"old\n")
        assert (await session.run("echo new")).stdout == b"new\n"

    async def test_later_commands_wait_for_the_started_one(self, session: Session) -> None:
        """First come, first served."""
        talk = _interactive(session)
        await talk.start("read x; echo $x")
        later = asyncio.create_task(session.run("echo later"))
        await talk.send(b"first\n")
        assert (await talk.finish()).stdout == b"first\n"
        assert (await later).stdout == b"later\n"


def _interactive(session: Session) -> InteractiveSession:
    assert isinstance(session, InteractiveSession), "the session lacks methods of InteractiveSession"
    return session
