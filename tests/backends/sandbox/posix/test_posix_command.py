import asyncio
from pathlib import Path

import pytest

from tumbler.errors import ExecFailed, ExecTimeout
from tumbler_backends.sandbox.posix.command import require_success, run_command
from tumbler_backends.sandbox.posix.spawner import Spawner

LONG_S = 300


def runs(pid: int) -> bool:
    """Tell whether a process is there, and not merely waiting to be reaped."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
async def test_output_up_to_the_limit_is_whole(spawner: Spawner, size: int) -> None:
    result = await run_command(spawner, f"head -c {size} /dev/zero; exit 3", max_output=1000)
    assert (len(result.stdout), result.truncated, result.exit_code) == (size, False, 3)


@pytest.mark.parametrize("size", [1001, 1060, 1064, 1065, 1128, 1129, 5_000_000])
async def test_output_past_the_limit_is_cut_and_the_status_is_kept(spawner: Spawner, size: int) -> None:
    flood = f"head -c {size} /dev/zero; head -c {size} /dev/zero >&2; exit 3"
    result = await run_command(spawner, flood, max_output=1000)
    assert (len(result.stdout), len(result.stderr), result.truncated, result.exit_code) == (1000, 1000, True, 3)
    assert result.stdout_dropped in {0, size - 1000}


async def test_output_in_small_pieces_is_whole(spawner: Spawner) -> None:
    result = await run_command(spawner, "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done")
    assert result.stdout == b"".join(b"line %d\n" % number for number in range(300))


async def test_what_is_said_before_a_kill_is_kept_though_the_command_ignores_sigterm(spawner: Spawner) -> None:
    result = await run_command(spawner, "trap 'echo stopping' TERM; echo on; sleep 300; sleep 300", timeout=0.4)
    assert result.timed_out
    assert result.stdout == b"on\nstopping\n"


async def test_a_child_without_the_marked_environment_is_killed_too(spawner: Spawner, tmp_path: Path) -> None:
    result = await run_command(spawner, f"env -i sh -c 'echo $$; sleep {LONG_S}'; true", timeout=0.5)
    assert result.timed_out
    assert not runs(int(result.stdout))


async def test_a_background_child_may_talk_on_and_does_no_harm(spawner: Spawner, tmp_path: Path) -> None:
    chatter = "(until [ -e stop ]; do echo late; sleep 0.01; done; echo ended >ended) & echo now"
    result = await run_command(spawner, chatter, timeout=LONG_S)
    assert result.stdout.replace(b"late\n", b"") == b"now\n"
    (tmp_path / "stop").touch()
    while not (tmp_path / "ended").exists():
        await asyncio.sleep(0.01)


async def test_checked_commands_raise_with_what_they_said(spawner: Spawner) -> None:
    failed = await run_command(spawner, "echo why >&2; exit 2")
    with pytest.raises(ExecFailed, match="why"):
        require_success("it", failed, 1.0)
    late = await run_command(spawner, f"echo so far; sleep {LONG_S}", timeout=0.2)
    with pytest.raises(ExecTimeout, match="so far") as caught:
        require_success("it", late, 0.2)
    assert caught.value.partial is late
