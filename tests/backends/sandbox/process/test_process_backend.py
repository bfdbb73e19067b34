"""The process backend starts by consent alone, kills whatever it started, and cleans up after dead owners."""

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from tumbler.contracts.sandbox import Mount, NetworkPolicy, Resources, SandboxSpec
from tumbler.errors import CapabilityError, PolicyDenied, SandboxUnavailable
from tumbler_backends.sandbox.process.backend import ProcessBackend
from tumbler_backends.sandbox.process.settings import ProcessSettings
from tumbler_backends.sandbox.process.tree import SANDBOX_MARK, Mark, members

SPEC = SandboxSpec(isolation_min="process", network=NetworkPolicy(mode="public"))
OWNER = """
    import asyncio, sys, warnings
    from pathlib import Path
    warnings.simplefilter("ignore")
    from tumbler.contracts.sandbox import NetworkPolicy, SandboxSpec
    from tumbler_backends.sandbox.process.backend import ProcessBackend
    from tumbler_backends.sandbox.process.settings import ProcessSettings

    async def main():
        backend = ProcessBackend(ProcessSettings(i_know_this_is_not_isolated=True, root=Path(sys.argv[1])))
        await backend.start()
        box = await backend.create(SandboxSpec(isolation_min="process", network=NetworkPolicy(mode="public")))
        process = await box.spawn("(setsid sleep 300 &); echo up; exec sleep 300")
        await process.read()
        print(backend._owner.name, flush=True)
        await asyncio.sleep(300)

    asyncio.run(main())
"""


@pytest.fixture
def settings(tmp_path):
    return ProcessSettings(i_know_this_is_not_isolated=True, root=tmp_path / "sandboxes", grace=0.1)


@pytest.fixture
async def backend(settings):
    backend = ProcessBackend(settings)
    with pytest.warns(RuntimeWarning, match="isolates nothing"):
        await backend.start()
    yield backend
    await backend.close()


async def test_it_does_not_start_without_consent(tmp_path):
    backend = ProcessBackend(ProcessSettings(root=tmp_path / "sandboxes"))
    with pytest.raises(SandboxUnavailable, match="i_know_this_is_not_isolated = true"):
        await backend.start()
    with pytest.raises(SandboxUnavailable, match="not started"):
        await backend.create(SPEC)
    assert not (tmp_path / "sandboxes").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"isolation_min": "namespace"}, "isolation_min 'namespace' is stronger than none"),
        ({"network": NetworkPolicy()}, "network mode 'none' cannot be enforced"),
        ({"resources": Resources(memory_bytes=1)}, "memory_bytes cannot be enforced"),
        ({"image": "debian"}, "image 'debian'"),
        ({"mounts": (Mount(source="/", target="/host"),)}, "mounts"),
        ({"user": "nobody"}, "user 'nobody'"),
        ({"workdir": "work"}, "not absolute"),
    ],
)
async def test_what_would_need_isolation_is_refused(backend, change, said):
    with pytest.raises(CapabilityError, match=said):
        await backend.create(replace(SPEC, **change))
    assert await backend.list() == []


async def test_the_default_spec_names_all_that_stands_in_the_way(backend):
    with pytest.raises(CapabilityError, match=r"isolation_min.*network mode"):
        await backend.create(SandboxSpec())


async def test_the_own_user_can_be_named(backend):
    box = await backend.create(replace(SPEC, user=str(os.getuid())))
    assert (await box.exec("id -u")).stdout == b"%d\n" % os.getuid()


async def test_real_paths_that_commands_see_can_be_given_back(backend):
    box = await backend.create(SPEC)
    place = (await box.exec("echo x >file; pwd")).stdout.decode().strip()
    assert await box.read(f"{place}/file") == await box.read("/work/file") == b"x\n"
    assert (await box.stat(f"{place}/file")).path == "/work/file"
    with pytest.raises((PolicyDenied, FileNotFoundError)):
        await box.read("/etc/hostname")


async def test_the_hosts_environment_is_not_handed_down(backend, monkeypatch):
    monkeypatch.setenv("TUMBLER_TEST_SECRET", "do-not-leak")
    box = await backend.create(SPEC)
    assert b"do-not-leak" not in (await box.exec("env")).stdout


@pytest.mark.parametrize(
    "daemon",
    [
        "(setsid sh -c 'sleep 300' &)",
        "(setsid sh -c '(setsid sleep 300 &) ; sleep 300' >/dev/null 2>&1 &)",
        "trap '' TERM HUP; (trap '' TERM; sleep 300) &",
        "nohup sleep 300 >/dev/null 2>&1 &",
    ],
)
async def test_no_daemon_outlives_its_sandbox(backend, daemon):
    box = await backend.create(SPEC)
    await box.exec(f"{daemon}\necho started", check=True)
    process = await box.spawn(f"{daemon}\necho up; sleep 300")
    await process.read()
    mark = Mark(variable=SANDBOX_MARK, value=f"{(await box.info()).owner}/{box.id}")
    assert len(members(mark)) >= 2
    await process.kill()
    await box.delete()
    assert not members(mark)


@pytest.mark.parametrize("ending", ["kill", "delete"])
async def test_a_child_that_drops_its_marks_is_found_in_its_commands_session(backend, ending):
    box = await backend.create(SPEC)
    process = await box.spawn("env -i sleep 300 & echo $!; sleep 300")
    child = int((await process.read()).data)
    await (process.kill() if ending == "kill" else box.delete())
    async with asyncio.timeout(30):
        while Path(f"/proc/{child}/environ").exists():
            await asyncio.sleep(0.05)


async def test_a_fork_storm_is_ended(backend):
    box = await backend.create(SPEC)
    storm = "storm() { i=0; while [ $i -lt 40 ]; do (setsid sleep 300 &); i=$((i+1)); done; }; storm; echo up; storm"
    process = await box.spawn(storm)
    await process.read()
    mark = Mark(variable=SANDBOX_MARK, value=f"{(await box.info()).owner}/{box.id}")
    await box.delete()
    assert not members(mark)


async def test_what_a_dead_owner_left_is_swept(settings):
    command = [sys.executable, "-c", dedent(OWNER), str(settings.root)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220  # it says one line
    assert owner.stdout is not None
    name = owner.stdout.readline().strip()
    backend = ProcessBackend(settings)
    with pytest.warns(RuntimeWarning, match="isolates nothing"):
        await backend.start()
    mark = Mark(variable=SANDBOX_MARK, value=f"{name}/")
    assert await backend.reconcile() == 0
    assert len(members(mark)) >= 2
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    assert await backend.reconcile() == 1
    assert not members(mark)
    assert [path for path in settings.root.iterdir() if path.name == name] == []
    await backend.close()
    assert list(settings.root.iterdir()) == []


async def test_a_folder_that_others_can_write_to_is_refused(settings):
    settings.root.mkdir()
    settings.root.chmod(0o777)
    with pytest.raises(SandboxUnavailable, match="alone can write to"), pytest.warns(RuntimeWarning):
        await ProcessBackend(settings).start()


async def test_descriptors_are_given_back(backend):
    box = await backend.create(SPEC)
    await box.exec("true")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        await box.exec("sleep 300 & echo on")
        await (await box.spawn(["true"])).wait(30)
    await box.delete()
    async with asyncio.timeout(30):
        while len(list(Path("/proc/self/fd").iterdir())) > before:
            await asyncio.sleep(0.05)
