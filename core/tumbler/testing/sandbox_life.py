"""The part of the complete sandbox suite about a sandbox's time: its start, idling, pauses and end."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from tumbler.contracts.sandbox import Healthcheck, Mount, SandboxSpec
from tumbler.contracts.sandbox_control import CompleteSandbox, ManagedBackend
from tumbler.errors import CapabilityError, SandboxDied, SandboxError, SandboxNotFound, SandboxStartFailed
from tumbler.testing.sandbox_fixtures import LONG_S, Boxes, CompleteFixtures, eventually

__all__ = ["LifeTests", "StartTests"]

_IDLE_S = 3.0
_BEAT = "while :; do date +%s%N >>beats; sleep 0.02; done"
_PAUSE_S = 1.5
_NANOSECONDS = 10**9


@pytest.mark.asyncio(loop_scope="class")
class StartTests(CompleteFixtures):
    """What a spec asks for is there, or is refused before anything starts."""

    async def test_a_healthcheck_decides_when_a_sandbox_is_started(self, boxes: Boxes) -> None:
        """It is repeated until it succeeds."""
        tries = "echo x >>tries; test $(wc -l <tries) -ge 3"
        box = await boxes(SandboxSpec(healthcheck=Healthcheck(command=("sh", "-c", tries), interval=0.05)))
        assert await box.read("tries") == b"x\n" * 3

    async def test_a_healthcheck_that_fails_is_a_failed_start(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """Nothing of it is left."""
        spec = SandboxSpec(
            healthcheck=Healthcheck(command=("false",), interval=0.1), startup_timeout=5, labels={"suite": "ill"}
        )
        with pytest.raises(SandboxStartFailed) as failed:
            await boxes(spec)
        assert failed.value.phase == "healthcheck"
        assert await managed.list(labels={"suite": "ill"}) == []

    async def test_variables_are_there_for_everything(self, boxes: Boxes) -> None:
        """Commands, sessions and processes."""
        box = await boxes.complete(SandboxSpec(env={"SUITE": "a b"}))
        session = await box.session()
        process = await box.spawn('echo "$SUITE"')
        await process.wait(LONG_S)
        assert (await box.exec('echo "$SUITE"')).stdout == b"a b\n"
        assert (await session.run('echo "$SUITE"')).stdout == b"a b\n"
        assert (await process.read()).data == b"a b\n"
        await session.close()

    async def test_commands_are_run_by_an_unprivileged_user(self, box: CompleteSandbox) -> None:
        """Unless another is asked for."""
        assert (await box.exec("id -u")).stdout.strip() != b"0"

    async def test_a_user_is_had_or_refused(self, boxes: Boxes) -> None:
        """Never another one in its place."""
        with pytest.raises((CapabilityError, SandboxStartFailed)):
            await boxes(SandboxSpec(user="no-such-user-anywhere"))
        try:
            box = await boxes(SandboxSpec(user="root"))
        except CapabilityError:
            return
        assert (await box.exec("id -u")).stdout == b"0\n"

    async def test_a_mount_is_had_or_refused(self, boxes: Boxes, tmp_path_factory: pytest.TempPathFactory) -> None:
        """One that is not writable cannot be written."""
        folder = tmp_path_factory.mktemp("mounted")
        folder.chmod(0o777)
        (folder / "file").write_bytes(b"of the host")
        for writable in (False, True):
            mount = Mount(source=str(folder), target="/mounted", writable=writable)
            try:
                box = await boxes(SandboxSpec(mounts=(mount,)))
            except CapabilityError:
                continue
            assert (await box.exec("cat /mounted/file")).stdout == b"of the host"
            written = await box.exec("echo inside >/mounted/written")
            assert (written.exit_code == 0) == writable == (folder / "written").exists()

    async def test_a_mount_of_nothing_is_refused(self, boxes: Boxes) -> None:
        """Before anything starts."""
        with pytest.raises((CapabilityError, SandboxStartFailed, FileNotFoundError)):
            await boxes(SandboxSpec(mounts=(Mount(source="/no/such/folder", target="/mounted"),)))

    async def test_limits_that_cannot_be_enforced_are_refused(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """The others are taken."""
        limits = {"cpus": 1, "memory_bytes": 256 << 20, "disk_bytes": 256 << 20, "processes": 100, "open_files": 300}
        for name, limit in limits.items():
            spec = SandboxSpec()
            spec = replace(spec, resources=replace(spec.resources, **{name: limit}))
            if name in managed.capabilities.enforces:
                assert (await (await boxes(spec)).exec("true")).exit_code == 0
            else:
                with pytest.raises(CapabilityError, match=name):
                    await boxes(spec)
        if "gpus" not in managed.capabilities.enforces:
            with pytest.raises(CapabilityError, match="gpus"):
                await boxes(replace(SandboxSpec(), resources=replace(SandboxSpec().resources, gpus=1)))

    async def test_a_template_that_is_not_there_is_refused(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """With the class that tells why."""
        expected = SandboxNotFound if managed.capabilities.snapshots else CapabilityError
        with pytest.raises(expected):
            await boxes(SandboxSpec(template="never-was"))


@pytest.mark.asyncio(loop_scope="class")
class LifeTests(CompleteFixtures):
    """Time to live, idling, pauses."""

    async def test_a_life_can_be_made_longer_and_shorter(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """Whoever comes later is told what the end was."""
        box = await boxes.complete(SandboxSpec(ttl=100, labels={"suite": "extend"}))
        await box.extend(10_000)
        info = await box.info()
        assert info.expires - info.created > 9000
        await box.extend(0.2)
        await _until_gone(managed, "extend")
        with pytest.raises(SandboxDied) as died:
            await box.exec("true")
        assert died.value.cause == "ttl"

    async def test_idling_is_bounded_where_that_is_asked_for(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """A running process, and a heartbeat, are use."""
        idle = await boxes.complete(SandboxSpec(idle_ttl=0.2, labels={"suite": "idle"}))
        busy = await boxes.complete(SandboxSpec(idle_ttl=_IDLE_S))
        process = await busy.spawn(["sleep", str(LONG_S)])
        beating = await boxes.complete(SandboxSpec(idle_ttl=_IDLE_S))
        for _ in range(20):
            await beating.heartbeat()
            await asyncio.sleep(_IDLE_S / 10)
        living = {info.id for info in await managed.list()}
        assert {busy.id, beating.id} <= living
        assert await process.poll() is None
        await _until_gone(managed, "idle")
        with pytest.raises(SandboxError):
            await idle.exec("true")

    async def test_a_pause_freezes_all_processes(self, managed: ManagedBackend, box: CompleteSandbox) -> None:
        """And the end of the pause lets them go on; where there is none, it is refused."""
        if not managed.capabilities.pause:
            for attempt in (box.pause, box.resume):
                with pytest.raises(CapabilityError):
                    await attempt()
            return
        process = await box.spawn(_BEAT)
        await eventually(lambda: _has_begun(box), "the processes should be at work")
        await box.pause()
        assert (await box.info()).state == "paused"
        await asyncio.sleep(_PAUSE_S)
        await box.resume()
        assert (await box.info()).state == "running"
        assert await process.poll() is None
        # A busy machine makes gaps longer and never shorter, so this bound holds everywhere.
        await eventually(lambda: _paused_within(box, _PAUSE_S * 0.8), "the processes should have stood still")
        await process.kill()


async def _until_gone(managed: ManagedBackend, suite: str) -> None:
    async def gone() -> bool:
        return not await managed.list(labels={"suite": suite})

    await eventually(gone, "the sandbox should be reaped")


async def _has_begun(box: CompleteSandbox) -> bool:
    try:
        return bool(await box.read("beats"))
    except FileNotFoundError:
        return False


async def _paused_within(box: CompleteSandbox, seconds: float) -> bool:
    beats = [int(beat) for beat in (await box.read("beats")).split()]
    gaps = [later - earlier for earlier, later in pairwise(beats)]
    return bool(gaps) and max(gaps) >= seconds * _NANOSECONDS
