"""The part of the sandbox suite about `Session`."""

import asyncio

import pytest

from tumbler.contracts.sandbox import Sandbox, Session
from tumbler.errors import SessionEnded
from tumbler.testing.sandbox_fixtures import LONG_S, SandboxFixtures, assert_still

__all__ = ["SessionTests"]


@pytest.mark.asyncio(loop_scope="class")
class SessionTests(SandboxFixtures):
    """State, order, streams that do not mix, time-outs and ends."""

    async def test_a_session_keeps_directory_and_variables(self, session: Session) -> None:
        """Exported ones, others, and functions."""
        await session.run("mkdir -p deep/er; cd deep; export A=1; B=2; f() { echo f$1; }")
        result = await session.run("cd er; pwd; echo $A$B; f 3; sh -c 'echo $A.$B'")
        assert result.stdout.splitlines()[0].endswith(b"/deep/er")
        assert result.stdout.splitlines()[1:] == [b"12", b"f3", b"1."]

    async def test_a_session_reports_exit_codes_and_streams(self, session: Session) -> None:
        """As `exec` does."""
        result = await session.run("echo out; echo err >&2; (exit 7)")
        assert (result.exit_code, result.stdout, result.stderr) == (7, b"out\n", b"err\n")
        assert (await session.run("echo $?")).stdout == b"7\n"

    async def test_a_session_speaks_as_bash_does(self, session: Session) -> None:
        """Models learn this wording: it is the same for each command."""
        for _ in range(2):
            result = await session.run("no-such-command")
            assert (result.exit_code, result.stderr) == (127, b"bash: line 1: no-such-command: command not found\n")

    async def test_a_syntax_error_ends_neither_session_nor_stream(self, session: Session) -> None:
        """An unclosed quote does not swallow the next command."""
        result = await session.run("echo 'unclosed")
        assert result.exit_code != 0
        assert result.stderr
        assert (await session.run("echo next")).stdout == b"next\n"

    async def test_loop_words_outside_of_a_loop_do_no_harm(self, session: Session) -> None:
        """The session's own machinery is out of reach."""
        for word in ("break", "continue", "return 3", "set -u", "true )", "# just a remark", ""):
            await session.run(word)
            assert (await session.run("echo on")).stdout == b"on\n", word

    async def test_output_that_looks_like_a_protocol_is_only_output(self, session: Session) -> None:
        """NULs, many lines, no last newline, and a large piece."""
        result = await session.run(r"printf '0\0000\000\n'; head -c 300000 /dev/zero; printf 'x'")
        assert result.stdout == b"0\x000\0\n" + bytes(300000) + b"x"
        assert (await session.run("printf y")).stdout == b"y"

    async def test_a_session_command_has_nothing_on_stdin(self, session: Session) -> None:
        """It cannot eat the next command."""
        assert (await session.run("cat")).stdout == b""
        assert (await session.run("echo next")).stdout == b"next\n"

    async def test_a_long_command_arrives_whole(self, session: Session) -> None:
        """And a short one after it is not mixed with its rest."""
        words = "ü" * 100_000
        result = await session.run(f"printf %s '{words}' | wc -c")
        assert result.stdout.strip() == b"200000"
        assert (await session.run("echo short")).stdout == b"short\n"

    async def test_late_output_of_a_background_child_is_in_no_later_result(self, session: Session) -> None:
        """The child itself lives on."""
        first = await session.run(
            "(until [ -e go ]; do sleep 0.01; done; echo late; echo late >&2; touch done) & echo now"
        )
        assert first.stdout == b"now\n"
        second = await session.run("touch go; until [ -e done ]; do sleep 0.01; done; echo second")
        third = await session.run("echo third")
        assert (second.stdout, second.stderr, third.stdout) == (b"second\n", b"", b"third\n")

    async def test_a_background_child_of_a_session_does_not_block_and_lives_on(self, session: Session) -> None:
        """Unlike in `exec`."""
        result = await session.run(f"sleep {LONG_S} & echo hi", timeout=LONG_S)
        assert (result.stdout, result.timed_out) == (b"hi\n", False)
        assert (await session.run("kill -0 $! && echo alive")).stdout == b"alive\n"

    async def test_session_commands_are_run_in_order(self, session: Session) -> None:
        """Concurrent callers get their own output."""
        commands = [session.run(f"echo {number}; sleep 0.01; echo {number} >>order") for number in range(10)]
        results = await asyncio.gather(*commands)
        assert [result.stdout for result in results] == [f"{number}\n".encode() for number in range(10)]
        order = (await session.run("cat order")).stdout
        assert order.split() == [str(number).encode() for number in range(10)]

    async def test_a_session_timeout_keeps_partial_output(self, session: Session) -> None:
        """And kills the command."""
        result = await session.run(f"echo partial; sleep {LONG_S}", timeout=0.3)
        assert result.timed_out
        assert result.stdout == b"partial\n"

    async def test_after_a_session_timeout_no_result_is_stale(self, sandbox: Sandbox, session: Session) -> None:
        """The directory and the exported variables are back, and the old command is dead."""
        await session.run("mkdir here; cd here; export KEPT='a b'")
        looping = "while :; do date +%N >beat; echo stale; sleep 0.02; done"
        assert (await session.run(looping, timeout=0.5)).timed_out
        result = await session.run('echo fresh; pwd; echo "$KEPT"')
        assert not result.timed_out
        lines = result.stdout.splitlines()
        assert (lines[0], lines[1][-5:], lines[2]) == (b"fresh", b"/here", b"a b")
        await assert_still(sandbox, "here/beat")

    async def test_a_cancelled_session_command_leaves_nothing_behind(self, session: Session) -> None:
        """The next caller sees only its own output."""
        task = asyncio.create_task(session.run(f"echo old; sleep {LONG_S}", timeout=LONG_S))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await session.run("echo new")).stdout == b"new\n"

    async def test_exit_ends_the_session_with_its_status(self, sandbox: Sandbox, session: Session) -> None:
        """Every later command says so too; the sandbox lives."""
        for command in ("exit 3", "echo again"):
            with pytest.raises(SessionEnded) as ended:
                await session.run(command)
            assert ended.value.exit_status == 3
        assert await sandbox.alive()

    async def test_session_output_past_the_limit_is_dropped(self, session: Session) -> None:
        """And the next result is whole."""
        result = await session.run("head -c 3000000 /dev/zero", max_output=100)
        assert (len(result.stdout), result.truncated) == (100, True)
        assert (await session.run("echo next")).stdout == b"next\n"

    async def test_sessions_of_one_sandbox_are_apart_and_share_files(self, sandbox: Sandbox, session: Session) -> None:
        """Variables are apart."""
        other = await sandbox.session()
        await session.run("X=1; echo shared >file")
        assert (await other.run('echo "<$X>"; cat file')).stdout == b"<>\nshared\n"
        await other.close()

    async def test_a_closed_session_is_ended(self, sandbox: Sandbox, session: Session) -> None:
        """Closing kills background children and may be repeated."""
        await session.run("(while :; do date +%N >beat; sleep 0.02; done) & sleep 0.1")
        await session.close()
        await session.close()
        with pytest.raises(SessionEnded):
            await session.run("true")
        await assert_still(sandbox, "beat")
