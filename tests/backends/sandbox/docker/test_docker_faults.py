"""An engine that stops, hangs and comes back: typed errors in bounded time, and nothing left."""

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import Resources, SandboxSpec
from tumbler.errors import CapabilityError, SandboxDied, SandboxStartFailed, SandboxUnavailable
from tumbler_backends.sandbox.docker.backend import DockerBackend
from tumbler_backends.sandbox.docker.settings import DockerSettings

_TOOLS = Path(__file__).parents[4] / "tools"
_PATIENCE_S = 60


class OwnEngine:
    """An engine that a test may stop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = ""

    def start(self) -> None:
        said = subprocess.run(
            ["sh", _TOOLS / "start-docker-engine.sh", self.folder], check=True, stdout=subprocess.PIPE, text=True
        )
        self.address = said.stdout.strip()

    def signal(self, number: int) -> None:
        os.kill(int((self.folder / "pid").read_text()), number)

    def stop(self) -> None:
        subprocess.run(["sh", _TOOLS / "start-docker-engine.sh", "--stop", self.folder], check=True)


@pytest.fixture
def own_engine() -> Iterator[OwnEngine]:
    engine = OwnEngine(Path(tempfile.mkdtemp(prefix="tumbler-engine-")))
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
async def backend(own_engine: OwnEngine, docker_image: str, tmp_path: Path) -> AsyncIterator[DockerBackend]:
    settings = DockerSettings(
        host=own_engine.address, image=docker_image, root=tmp_path / "docker", engine_timeout=2.0, request_timeout=20
    )
    backend = DockerBackend(settings)
    await backend.start()
    yield backend
    await backend.close()
    assert not list((tmp_path / "docker").iterdir())


@pytest.fixture
async def on_shared_engine(docker_engine: str, docker_image: str, tmp_path: Path) -> AsyncIterator[DockerBackend]:
    backend = DockerBackend(DockerSettings(host=docker_engine, image=docker_image, root=tmp_path / "docker"))
    await backend.start()
    yield backend
    await backend.close()


async def test_an_engine_that_ends_in_the_middle_of_a_command_is_told(
    own_engine: OwnEngine, backend: DockerBackend
) -> None:
    sandbox = await backend.create(SandboxSpec())
    session = await sandbox.session()
    waiting = [
        asyncio.create_task(sandbox.exec("sleep 300", timeout=300)),
        asyncio.create_task(session.run("sleep 300", timeout=300)),
    ]
    process = await sandbox.spawn(["sleep", "300"])
    await asyncio.sleep(0.3)
    own_engine.signal(signal.SIGTERM)
    for outcome in await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), _PATIENCE_S):
        assert isinstance(outcome, SandboxDied)
        assert outcome.cause == "host"
        assert outcome.infra
    with pytest.raises(SandboxDied):
        await process.wait(_PATIENCE_S)
    with pytest.raises((SandboxDied, SandboxUnavailable)):
        await sandbox.exec("true")
    with pytest.raises(SandboxUnavailable):
        await asyncio.wait_for(backend.create(SandboxSpec()), _PATIENCE_S)
    own_engine.start()
    await _until_back(backend)


async def test_an_engine_that_hangs_is_told_and_one_that_goes_on_serves_the_same_sandboxes(
    own_engine: OwnEngine, backend: DockerBackend
) -> None:
    sandbox = await backend.create(SandboxSpec(files={"mark": b"kept"}))
    waiting = asyncio.create_task(sandbox.exec("sleep 300", timeout=300))
    await asyncio.sleep(0.3)
    own_engine.signal(signal.SIGSTOP)
    try:
        with pytest.raises(SandboxUnavailable, match="does not answer"):
            await asyncio.wait_for(waiting, _PATIENCE_S)
        with pytest.raises(SandboxUnavailable):
            await sandbox.exec("true")
    finally:
        own_engine.signal(signal.SIGCONT)
    for _ in range(_PATIENCE_S * 10):
        if await sandbox.alive():
            break
        await asyncio.sleep(0.1)
    assert await sandbox.read("mark") == b"kept"
    assert (await sandbox.exec("cat mark; ps ax | grep -c '[s]leep 300'")).stdout == b"kept0\n"


async def test_a_loop_that_stood_still_does_not_take_its_engine_for_dead(
    docker_engine: str, docker_image: str, tmp_path: Path
) -> None:
    settings = DockerSettings(root=tmp_path / "still", host=docker_engine, image=docker_image, engine_timeout=1)
    backend = DockerBackend(settings)
    await backend.start()
    try:
        sandbox = await backend.create(SandboxSpec())
        for _ in range(3):
            time.sleep(1.5)  # noqa: ASYNC251  # the point
            await asyncio.sleep(0.3)
        assert (await sandbox.exec("echo here")).stdout == b"here\n"
    finally:
        await backend.close()


async def test_an_engine_that_was_killed_and_started_again_has_lost_its_sandboxes(
    own_engine: OwnEngine, backend: DockerBackend
) -> None:
    sandbox = await backend.create(SandboxSpec())
    own_engine.signal(signal.SIGKILL)
    while Path(f"/proc/{(own_engine.folder / 'pid').read_text()}/exe").exists():
        await asyncio.sleep(0.05)
    own_engine.start()
    await _until_back(backend)
    for _ in range(_PATIENCE_S * 10):
        if not await sandbox.alive():
            break
        await asyncio.sleep(0.1)
    with pytest.raises(SandboxDied):
        await sandbox.exec("true")


async def test_a_command_out_of_memory_is_told_and_the_sandbox_lives(on_shared_engine: DockerBackend) -> None:
    sandbox = await on_shared_engine.create(SandboxSpec(resources=Resources(memory_bytes=64 << 20)))
    result = await sandbox.exec(["python3", "-c", "x = b'x' * (1 << 30)"], timeout=_PATIENCE_S)
    assert result.oom
    assert result.exit_code == 137
    assert (await sandbox.exec("echo on")).stdout == b"on\n"


async def test_an_image_that_is_not_there_says_how_to_get_it(on_shared_engine: DockerBackend) -> None:
    for image, advice in (
        ("no-such-image:1", "docker pull"),
        ("/no/such/folder", "no folder"),
        ("Not An Image", "no image"),
    ):
        with pytest.raises(CapabilityError, match=advice):
            await on_shared_engine.create(SandboxSpec(image=image))


async def test_a_missing_engine_says_what_to_do(tmp_path: Path) -> None:
    backend = DockerBackend(DockerSettings(host=f"unix://{tmp_path}/none.sock", root=tmp_path / "docker"))
    with pytest.raises(SandboxUnavailable, match=r"dockerd.*DOCKER_HOST"):
        await backend.start()


async def _until_back(backend: DockerBackend) -> None:
    """Wait until the backend has found the engine again, and makes sandboxes."""
    for _ in range(_PATIENCE_S * 10):
        with contextlib.suppress(SandboxUnavailable, SandboxStartFailed):
            sandbox = await backend.create(SandboxSpec())
            assert await sandbox.alive()
            await sandbox.delete()
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the backend should find the engine again")
