"""Whose containers are whose: owners that die, names that are taken over, sandboxes that change hands."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.errors import CapabilityError, SandboxDied, SandboxNotFound, SandboxUnavailable
from tumbler_backends.sandbox.docker.backend import DockerBackend
from tumbler_backends.sandbox.docker.settings import DockerSettings

_OWNER = """
import asyncio, contextlib, os, sys, time
from tumbler.contracts.sandbox import SandboxSpec
from tumbler_backends.sandbox.docker.backend import DockerBackend
from tumbler_backends.sandbox.docker.settings import DockerSettings

async def main():
    backend = DockerBackend(DockerSettings.model_validate_json(sys.argv[1]))
    await backend.start()
    made = await asyncio.gather(*(
        backend.create(SandboxSpec(files={"mark": str(n).encode()}, ttl=float(sys.argv[3]), name=f"box-{n}"))
        for n in range(int(sys.argv[2]))
    ))
    for sandbox in made:
        await sandbox.spawn("trap '' TERM; while :; do :; done & sleep 300")
    if float(sys.argv[4]) and os.fork() == 0:
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{number}").startswith("pipe:"):
                    os.close(int(number))
        time.sleep(float(sys.argv[4]))
        os._exit(0)
    print(" ".join(sandbox.id for sandbox in made), flush=True)
    await asyncio.sleep(300)

asyncio.run(main())
"""


@pytest.fixture
def settings(docker_engine: str, docker_image: str, tmp_path: Path) -> DockerSettings:
    return DockerSettings(host=docker_engine, image=docker_image, root=tmp_path / "docker", grace=0.2)


def killed_owner(settings: DockerSettings, count: int, ttl: float, *, lingers: float = 0.0) -> list[str]:
    """Make sandboxes in another process, and kill that with SIGKILL; return their ids.

    What it has open but its pipes stays open for the seconds that it `lingers`, as when its death takes long.
    """
    words = [sys.executable, "-c", _OWNER, settings.model_dump_json(), str(count), str(ttl), str(lingers)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        ids = owner.stdout.readline().split()
        owner.kill()
    assert len(ids) == count
    return ids


def containers(settings: DockerSettings, folder: Path | None = None) -> list[str]:
    """Return the ids of the sandboxes in `settings.root` that the engine has containers of."""
    words = ["docker", "-H", str(settings.host), "ps", "-aq", "--no-trunc", "--filter", "label=tumbler.sandbox.id"]
    found = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    if not found:
        return []
    words = ["docker", "-H", str(settings.host), "inspect", *found]
    shown = subprocess.run(words, check=False, stdout=subprocess.PIPE, text=True).stdout
    return [
        each["Config"]["Labels"]["tumbler.sandbox.id"]
        for each in json.loads(shown or "[]")
        if str(settings.root) in json.dumps(each["HostConfig"]["Mounts"])
    ]


async def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.1)


async def test_nothing_is_left_of_an_owner_that_was_killed(settings: DockerSettings) -> None:
    killed_owner(settings, 100, 3600)
    assert settings.root is not None
    root = settings.root
    await until(lambda: not containers(settings), "the containers should be removed without a later start")
    await until(lambda: not list(root.iterdir()), "the folders should be removed")


async def test_a_start_removes_what_a_dead_owner_left_when_its_watchdog_died_too(settings: DockerSettings) -> None:
    other = DockerBackend(settings)
    await other.start()
    sandbox = await other.create(SandboxSpec())
    # What a killed owner leaves: a container whose labels name a process that is gone.
    record = sandbox.controlled.record
    labels = {**record.owner_labels, "tumbler.sandbox.pid": "1", "tumbler.sandbox.started": "1"}
    spared = await other.reconcile()
    backend = DockerBackend(settings)
    await backend.start()
    assert (spared, containers(settings)) == (0, [sandbox.id])
    replace(record, owner_labels=labels, owner="dead").save(settings.root or Path())
    assert await backend.reconcile() == 1
    assert containers(settings) == []
    await backend.close()
    await other.close()


async def test_a_named_owner_takes_over_what_its_predecessor_left(settings: DockerSettings) -> None:
    named = settings.model_copy(update={"owner": "service"})
    ids = killed_owner(named, 2, 3600)
    backend = DockerBackend(named)
    await backend.start()
    assert sorted(info.id for info in await backend.list()) == sorted(ids)
    for number in range(2):
        sandbox = await backend.get(f"box-{number}")
        assert await sandbox.read("mark") == b"%d" % number
        assert (await sandbox.exec("cat mark")).stdout == b"%d" % number
    await backend.close()
    assert containers(named) == []


async def test_sandboxes_of_a_named_owner_end_with_their_time(settings: DockerSettings) -> None:
    named = settings.model_copy(update={"owner": "short"})
    killed_owner(named, 1, 8)
    await until(lambda: not containers(named), "the watchdog should remove them")


async def test_an_owner_whose_death_takes_long_is_not_its_own_successor(settings: DockerSettings) -> None:
    named = settings.model_copy(update={"owner": "slow"})
    killed_owner(named, 1, 1, lingers=3)
    await until(lambda: not containers(named), "the watchdog should remove them all the same")


async def test_a_name_has_one_living_owner(settings: DockerSettings) -> None:
    named = settings.model_copy(update={"owner": "single"})
    first, second = DockerBackend(named), DockerBackend(named)
    await first.start()
    with pytest.raises(SandboxUnavailable, match="single"):
        await second.start()
    await first.close()
    await second.start()
    await second.close()


async def test_a_sandbox_that_changed_hands_outlives_its_first_owner(settings: DockerSettings) -> None:
    first, second = DockerBackend(settings), DockerBackend(settings)
    await first.start()
    await second.start()
    made = await first.create(SandboxSpec(name="moving", files={"mark": b"here"}))
    sandbox = await second.attach("moving")
    assert sandbox.id == made.id
    await first.close()
    assert (await sandbox.exec("cat mark")).stdout == b"here"
    await second.close()
    assert containers(settings) == []


async def test_what_is_listed_of_all_owners_holds_the_others_sandboxes(settings: DockerSettings) -> None:
    first, second = DockerBackend(settings), DockerBackend(settings)
    await first.start()
    await second.start()
    made = await first.create(SandboxSpec(labels={"of": "first"}))
    assert await second.list(labels={"of": "first"}) == []
    (info,) = await second.list(labels={"of": "first"}, mine=False)
    assert (info.id, info.backend, info.state) == (made.id, "docker", "running")
    with pytest.raises(SandboxNotFound):
        await second.get(made.id)
    await first.close()
    await second.close()


async def test_a_container_that_is_removed_behind_our_back_is_told(settings: DockerSettings) -> None:
    backend = DockerBackend(settings)
    await backend.start()
    sandbox = await backend.create(SandboxSpec())
    waiting = asyncio.create_task(sandbox.exec("sleep 300", timeout=300))
    await asyncio.sleep(0.3)
    remove = ["docker", "-H", str(settings.host), "rm", "-f", sandbox.controlled.container.id]
    await asyncio.to_thread(subprocess.run, remove, check=True, capture_output=True)
    with pytest.raises(SandboxDied) as died:
        await waiting
    assert died.value.cause == "killed"
    await until(lambda: backend.measure().sandboxes == 0, "it should no longer count as living")
    await backend.close()


async def test_what_a_named_owner_detaches_from_is_there_at_the_next_start(settings: DockerSettings) -> None:
    mine = settings.model_copy(update={"owner": "leaves"})
    first = DockerBackend(mine)
    assert first.detachable
    await first.start()
    made = await first.create(SandboxSpec(name="kept", files={"mark": b"of the first"}))
    await made.spawn("sleep 3456")
    await first.detach()
    with pytest.raises(SandboxDied, match="left it"):
        await made.exec("true")
    second = DockerBackend(mine)
    await second.start()
    (info,) = await second.list()
    assert (info.id, info.name, info.image) == (made.id, "kept", settings.image)
    again = await second.get("kept")
    assert await again.read("mark") == b"of the first"
    assert (await again.exec(["pgrep", "-f", "sleep 3456"])).exit_code == 1
    await again.delete()
    await second.detach()
    assert containers(settings) == []
    assert settings.root is not None
    assert not list(settings.root.iterdir())


async def test_what_is_detached_from_ends_at_its_time(settings: DockerSettings) -> None:
    backend = DockerBackend(settings.model_copy(update={"owner": "leaves-for-a-while"}))
    await backend.start()
    await backend.create(SandboxSpec(ttl=3))
    await backend.detach()
    assert len(containers(settings)) == 1
    await until(lambda: not containers(settings), "the container outlives its time")


async def test_an_owner_without_a_name_cannot_detach(settings: DockerSettings) -> None:
    backend = DockerBackend(settings)
    assert not backend.detachable
    await backend.start()
    made = await backend.create(SandboxSpec())
    with pytest.raises(CapabilityError, match="`owner`"):
        await backend.detach()
    assert await made.alive()
    await backend.close()
