"""The part of the complete sandbox suite about faults: floods, bombs and bursts that untrusted code brings."""

import asyncio
from typing import ClassVar

import pytest

from tumbler.contracts.sandbox import ExecResult, Resources, Sandbox, SandboxSpec, Session
from tumbler.contracts.sandbox_control import CompleteSandbox, ManagedBackend
from tumbler.errors import CapabilityError, SandboxDied
from tumbler.testing.sandbox_fixtures import LONG_S, Boxes, CompleteFixtures, bounded_memory, eventually

__all__ = ["FaultTests"]

_KEPT = 1 << 20
_MEMORY = 96 << 20
_ARGUMENT = 1 << 20
_TOO_LONG = 126


@pytest.mark.asyncio(loop_scope="class")
class FaultTests(CompleteFixtures):
    """Each is bounded, is told, and leaves a sandbox that works, or one that says why it died."""

    flood_bytes: ClassVar[int] = 1 << 30
    """How much a flood writes; lower it only for a wire that takes minutes for this."""
    burst: ClassVar[int] = 200
    """How many commands run at once."""

    async def test_a_flood_of_output_takes_bounded_memory(self, sandbox: Sandbox) -> None:
        """What was thrown away is counted where it is counted at all."""
        async with bounded_memory(_MEMORY):
            result = await sandbox.exec(
                f"head -c {self.flood_bytes} /dev/zero; echo end >&2", timeout=LONG_S, max_output=_KEPT
            )
        assert (result.exit_code, result.timed_out, result.stderr) == (0, False, b"end\n")
        assert result.truncated
        assert len(result.stdout) == _KEPT
        assert result.stdout_dropped in {0, self.flood_bytes - _KEPT}
        assert result.stderr_dropped == 0

    async def test_a_flood_of_a_process_takes_bounded_memory(self, box: CompleteSandbox) -> None:
        """Also when nobody reads."""
        async with bounded_memory(_MEMORY):
            process = await box.spawn(f"head -c {self.flood_bytes // 4} /dev/zero; echo end", max_output=_KEPT)
            assert (await process.wait(LONG_S)).exit_code == 0
            last = await process.read(offset=self.flood_bytes // 4 - 10, timeout=LONG_S)
        assert last.data == bytes(10) + b"end\n"

    async def test_dropped_output_is_counted_where_it_is_counted(self, sandbox: Sandbox) -> None:
        """For each stream."""
        result = await sandbox.exec("head -c 5000 /dev/zero; head -c 300 /dev/zero >&2", max_output=1000)
        assert (len(result.stdout), len(result.stderr), result.truncated) == (1000, 300, True)
        assert (result.stdout_dropped, result.stderr_dropped) in {(4000, 0), (0, 0)}

    async def test_any_bytes_come_out_of_everything(self, box: CompleteSandbox, session: Session) -> None:
        """Invalid UTF-8 is no reason to fail."""
        expected = b"\xff\xfe\xc3\x28\0\x80"
        command = r"printf '\377\376\303\050\000\200'"
        process = await box.spawn(command)
        await process.wait(LONG_S)
        assert (await box.exec(command)).stdout == expected
        assert (await session.run(command)).stdout == expected
        assert (await process.read()).data == expected

    async def test_a_memory_bomb_is_stopped(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """The command fails, and the sandbox lives or says what it died of."""
        spec = SandboxSpec(resources=Resources(memory_bytes=128 << 20))
        if "memory_bytes" not in managed.capabilities.enforces:
            with pytest.raises(CapabilityError, match="memory"):
                await boxes(spec)
            return
        sandbox = await boxes(spec)
        # Without line ends, tail keeps all that it reads.
        outcome = await _result_or_death(sandbox, "head -c 2000000000 /dev/zero | tail")
        if isinstance(outcome, ExecResult):
            assert outcome.oom or outcome.exit_code != 0
            outcome = await _result_or_death(sandbox, "echo on")
        assert isinstance(outcome, SandboxDied) or outcome.stdout == b"on\n"
        assert not isinstance(outcome, SandboxDied) or outcome.cause == "oom"

    async def test_a_fork_bomb_is_bounded(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """Afterwards the sandbox works."""
        spec = SandboxSpec(resources=Resources(processes=64))
        if "processes" not in managed.capabilities.enforces:
            with pytest.raises(CapabilityError, match="processes"):
                await boxes(spec)
            return
        sandbox = await boxes(spec)
        bomb = "i=0; while [ $i -lt 500 ]; do sleep 15 & i=$((i+1)); done; echo all of them"
        result = await sandbox.exec(["sh", "-c", bomb], timeout=5)
        assert b"all of them" not in result.stdout

        async def works() -> bool:
            return (await sandbox.exec("echo on", timeout=LONG_S)).stdout == b"on\n"

        await eventually(works, "the sandbox should work again once its processes have ended")

    async def test_a_huge_argument_arrives_or_is_too_long(self, sandbox: Sandbox, session: Session) -> None:
        """A shell's own words have no limit."""
        result = await sandbox.exec(["sh", "-c", "echo ${#1}", "sh", "x" * _ARGUMENT])
        assert (result.exit_code, result.stdout) in {(0, b"%d\n" % _ARGUMENT), (_TOO_LONG, b"")}
        assert (await session.run(f"x={'y' * _ARGUMENT}; echo ${{#x}}")).stdout == b"%d\n" % _ARGUMENT
        assert (await sandbox.exec("echo on")).stdout == b"on\n"

    async def test_a_burst_of_commands_is_served_in_full(self, sandbox: Sandbox) -> None:
        """Each with its own output."""
        results = await asyncio.gather(
            *(sandbox.exec(f"echo {number}; exit {number % 7}", timeout=LONG_S) for number in range(self.burst))
        )
        assert [result.stdout for result in results] == [b"%d\n" % number for number in range(self.burst)]
        assert [result.exit_code for result in results] == [number % 7 for number in range(self.burst)]

    async def test_many_open_sessions_and_processes_are_no_harm(self, box: CompleteSandbox) -> None:
        """They all answer, and all end with the sandbox."""
        sessions = await asyncio.gather(*(box.session() for _ in range(8)))
        outputs = await asyncio.gather(*(session.run(f"echo {n}") for n, session in enumerate(sessions)))
        assert [output.stdout for output in outputs] == [b"%d\n" % number for number in range(8)]


async def _result_or_death(sandbox: Sandbox, command: str) -> ExecResult | SandboxDied:
    try:
        return await sandbox.exec(command, timeout=LONG_S)
    except SandboxDied as died:
        return died
