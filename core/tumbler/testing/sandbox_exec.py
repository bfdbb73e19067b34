"""The part of the sandbox suite about `Sandbox.exec`."""

import asyncio

import pytest

from tumbler.contracts.sandbox import Sandbox, SandboxSpec
from tumbler.errors import ExecFailed, ExecTimeout
from tumbler.testing.sandbox_fixtures import LONG_S, Boxes, SandboxFixtures, assert_still, until_exists

__all__ = ["ExecTests"]


@pytest.mark.asyncio(loop_scope="class")
class ExecTests(SandboxFixtures):
    """Results, environment, time-outs, background children and floods."""

    # exec: results

    async def test_streams_come_back_apart_as_bytes(self, sandbox: Sandbox) -> None:
        """Stdout and stderr do not mix."""
        result = await sandbox.exec("echo out; echo err >&2")
        assert (result.exit_code, result.stdout, result.stderr) == (0, b"out\n", b"err\n")
        assert not result.timed_out
        assert not result.truncated
        assert result.duration >= 0

    async def test_a_failing_command_is_a_result_and_no_error(self, sandbox: Sandbox) -> None:
        """Exit codes are data."""
        result = await sandbox.exec("echo before; exit 7")
        assert (result.exit_code, result.stdout) == (7, b"before\n")

    async def test_words_reach_the_command_unchanged(self, sandbox: Sandbox) -> None:
        """A sequence is not interpreted by a shell."""
        words = ["a b", "$HOME", "'\"", "*", "", "ü\n-e", "--"]
        result = await sandbox.exec(["printf", "[%s]", *words])
        assert result.stdout.decode() == "".join(f"[{word}]" for word in words)

    async def test_nul_and_invalid_utf8_pass_through(self, sandbox: Sandbox) -> None:
        """Output is bytes."""
        result = await sandbox.exec(r"printf '\000\377\376\000'")
        assert result.stdout == b"\0\xff\xfe\0"

    async def test_input_is_the_commands_stdin(self, sandbox: Sandbox) -> None:
        """All bytes arrive, and then the end."""
        content = bytes(range(256)) * 4096
        result = await sandbox.exec(["cat"], input=content)
        assert result.stdout == content

    async def test_without_input_stdin_is_at_its_end(self, sandbox: Sandbox) -> None:
        """A command that reads stdin does not wait."""
        assert (await sandbox.exec(["cat"])).stdout == b""

    async def test_a_missing_binary_is_127(self, sandbox: Sandbox) -> None:
        """As in shells."""
        assert (await sandbox.exec(["no-such-binary"])).exit_code == 127
        assert (await sandbox.exec("no-such-binary")).exit_code == 127

    async def test_a_file_that_is_not_executable_is_126(self, sandbox: Sandbox) -> None:
        """As in shells."""
        await sandbox.write("plain", b"true\n")
        assert (await sandbox.exec(["./plain"])).exit_code == 126

    async def test_a_signal_is_reported(self, sandbox: Sandbox) -> None:
        """The code is 128 plus the signal."""
        result = await sandbox.exec("kill -9 $$")
        assert (result.exit_code, result.signal) == (137, 9)

    async def test_check_raises_for_a_failure_and_not_otherwise(self, sandbox: Sandbox) -> None:
        """The message holds the output."""
        await sandbox.exec("true", check=True)
        with pytest.raises(ExecFailed, match="what went wrong"):
            await sandbox.exec("echo what went wrong >&2; exit 3", check=True)

    async def test_commands_run_at_the_same_time(self, sandbox: Sandbox) -> None:
        """Each waits for the other: one after the other would never end."""
        first = sandbox.exec("touch a; until [ -e b ]; do sleep 0.01; done; echo 1", timeout=60)
        second = sandbox.exec("touch b; until [ -e a ]; do sleep 0.01; done; echo 2", timeout=60)
        results = await asyncio.gather(first, second)
        assert [result.stdout for result in results] == [b"1\n", b"2\n"]

    # exec: environment and place

    async def test_commands_start_in_the_working_directory(self, boxes: Boxes) -> None:
        """`cwd` is relative to it."""
        sandbox = await boxes(SandboxSpec(workdir="/data/project", files={"sub/file": b""}))
        assert (await sandbox.exec("pwd")).stdout == b"/data/project\n"
        assert (await sandbox.exec("pwd; ls", cwd="sub")).stdout == b"/data/project/sub\nfile\n"
        assert (await sandbox.exec("pwd", cwd="/tmp")).stdout == b"/tmp\n"
        await sandbox.delete()

    async def test_a_missing_cwd_is_a_file_not_found_error(self, sandbox: Sandbox) -> None:
        """It is not mistaken for a command that fails."""
        with pytest.raises(FileNotFoundError):
            await sandbox.exec("pwd", cwd="no/such/folder")

    async def test_variables_of_spec_and_call_are_set(self, boxes: Boxes) -> None:
        """The call's win."""
        sandbox = await boxes(SandboxSpec(env={"A": "spec a", "B": "spec b"}))
        result = await sandbox.exec('printf "%s,%s,%s" "$A" "$B" "$C"', env={"B": "call b", "C": ""})
        assert result.stdout == b"spec a,call b,"
        await sandbox.delete()

    async def test_the_hosts_environment_does_not_leak(self, boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
        """Secrets live in environments."""
        monkeypatch.setenv("TUMBLER_SUITE_SECRET", "do-not-leak")
        sandbox = await boxes()
        result = await sandbox.exec("env; cat /proc/*/environ 2>/dev/null")
        assert b"do-not-leak" not in result.stdout
        await sandbox.delete()

    # exec: time-outs, background children, floods

    async def test_a_timeout_keeps_partial_output(self, sandbox: Sandbox) -> None:
        """What was printed is not lost."""
        result = await sandbox.exec(f"echo partial; sleep {LONG_S}", timeout=0.3)
        assert result.timed_out
        assert result.stdout == b"partial\n"
        assert result.exit_code != 0

    async def test_a_timeout_kills_the_whole_tree(self, sandbox: Sandbox) -> None:
        """Also what ignores SIGTERM, changed its session and forked twice."""
        daemon = "trap '' TERM; while :; do date +%N >beat; sleep 0.02; done"
        result = await sandbox.exec(
            ["sh", "-c", f'(setsid sh -c "$1" >/dev/null 2>&1 &); sleep {LONG_S}', "sh", daemon], timeout=0.5
        )
        assert result.timed_out
        await assert_still(sandbox, "beat")

    async def test_check_raises_on_a_timeout(self, sandbox: Sandbox) -> None:
        """The message holds the partial output."""
        with pytest.raises(ExecTimeout, match="so far"):
            await sandbox.exec(f"echo so far; sleep {LONG_S}", timeout=0.3, check=True)

    async def test_a_background_child_that_holds_the_pipes_does_not_block(self, sandbox: Sandbox) -> None:
        """The command is over when its own process is."""
        result = await sandbox.exec(f"sleep {LONG_S} & echo hi", timeout=LONG_S)
        assert (result.exit_code, result.stdout, result.timed_out) == (0, b"hi\n", False)

    async def test_a_sandbox_is_usable_after_a_timeout(self, sandbox: Sandbox) -> None:
        """Nothing of the old command shows."""
        await sandbox.exec(f"echo old; sleep {LONG_S}", timeout=0.2)
        assert (await sandbox.exec("echo new")).stdout == b"new\n"

    async def test_output_past_the_limit_is_dropped_and_said_so(self, sandbox: Sandbox) -> None:
        """The command runs on to its end."""
        result = await sandbox.exec("head -c 5000000 /dev/zero; echo end >&2; exit 4", max_output=1000)
        assert result.stdout == b"\0" * 1000
        assert result.truncated
        assert (result.stderr, result.exit_code) == (b"end\n", 4)

    async def test_output_at_the_limit_is_not_called_truncated(self, sandbox: Sandbox) -> None:
        """The mark is exact."""
        result = await sandbox.exec("head -c 1000 /dev/zero", max_output=1000)
        assert (len(result.stdout), result.truncated) == (1000, False)

    async def test_an_endless_flood_ends_with_the_timeout(self, sandbox: Sandbox) -> None:
        """And the host keeps no more than the limit."""
        result = await sandbox.exec("yes", timeout=0.5, max_output=4096)
        assert result.timed_out
        assert result.truncated
        assert len(result.stdout) == 4096

    async def test_a_cancelled_command_is_killed(self, sandbox: Sandbox) -> None:
        """Nothing runs on unseen."""
        task = asyncio.create_task(sandbox.exec("while :; do date +%N >beat; sleep 0.02; done", timeout=LONG_S))
        await until_exists(sandbox, "beat")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await assert_still(sandbox, "beat")
