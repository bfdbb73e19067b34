"""The part of the complete sandbox suite about six defects that other sandbox services had: none may come back."""

import asyncio

import pytest

from tumbler.contracts.sandbox import Sandbox, Session
from tumbler.contracts.sandbox_control import CompleteSandbox
from tumbler.testing.sandbox_fixtures import LONG_S, CompleteFixtures

__all__ = ["DefectTests"]


@pytest.mark.asyncio(loop_scope="class")
class DefectTests(CompleteFixtures):
    """Each test is named for what went wrong."""

    async def test_defect_stale_output_after_a_timeout(self, session: Session) -> None:
        """The next command returned the output of the one before."""
        late = await session.run("echo early; sleep 0.6; echo late", timeout=0.2)
        assert late.timed_out
        for word in ("one", "two", "three"):
            assert (await session.run(f"echo {word}; sleep 0.2")).stdout == f"{word}\n".encode()

    async def test_defect_garbled_concurrent_commands(self, session: Session) -> None:
        """Commands sent at once to one session mixed their output and exit codes."""
        commands = [session.run(f"echo {n}; echo e{n} >&2; sleep 0.01; echo {n}; (exit {n})") for n in range(20)]
        results = await asyncio.gather(*commands)
        for number, result in enumerate(results):
            line = f"{number}\n".encode()
            assert (result.exit_code, result.stdout, result.stderr) == (number, line * 2, b"e" + line)

    async def test_defect_lost_exit_code_of_nohup(self, box: CompleteSandbox, session: Session) -> None:
        """A job in the background that failed was reported as 0."""
        process = await box.spawn(["nohup", "sh", "-c", "echo out; exit 7"])
        assert (await process.wait(LONG_S)).exit_code == 7
        assert (await process.read()).data == b"out\n"
        assert (await box.exec(["nohup", "sh", "-c", "exit 7"])).exit_code == 7
        assert (await session.run("nohup sh -c 'exit 7' >nohup.out 2>&1 & wait $!")).exit_code == 7

    async def test_defect_error_on_reading_a_binary_file(self, sandbox: Sandbox) -> None:
        """A file that was not UTF-8 could not be read."""
        content = bytes(range(256)) + b"\xc3\x28\xa0\xa1"
        await sandbox.write("binary", content)
        assert await sandbox.read("binary") == content
        assert (await sandbox.exec("cat binary")).stdout == content

    async def test_defect_background_child_blocks_the_call(self, sandbox: Sandbox, session: Session) -> None:
        """`sleep 60 & echo` waited for the time-out and lost the output."""
        for run in (sandbox.exec, session.run):
            result = await run(f"sleep {LONG_S} & echo hi", timeout=LONG_S)
            assert (result.stdout, result.exit_code, result.timed_out) == (b"hi\n", 0, False)

    async def test_defect_exception_on_a_failing_command(self, sandbox: Sandbox, session: Session) -> None:
        """An ordinary non-zero exit was raised."""
        for run in (sandbox.exec, session.run):
            result = await run("echo said; echo why >&2; (exit 3)")
            assert (result.exit_code, result.stdout, result.stderr) == (3, b"said\n", b"why\n")
