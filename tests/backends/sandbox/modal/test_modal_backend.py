import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from serving import modal_server

from tumbler.config import Settings
from tumbler.contracts.sandbox import NetworkPolicy, Resources, SandboxSpec
from tumbler.errors import CapabilityError, SandboxDied, SandboxNotFound, SandboxUnavailable
from tumbler_backends.sandbox.modal.backend import ModalBackend
from tumbler_backends.sandbox.modal.settings import ModalSettings

LONG_S = 300

pytestmark = pytest.mark.usefixtures("modal_service")

ORPHAN = """
import asyncio, sys
from tumbler.contracts.sandbox import SandboxSpec
from tumbler_backends.sandbox.modal.backend import ModalBackend
from tumbler_backends.sandbox.modal.settings import ModalSettings

async def main():
    owner = sys.argv[1] or None
    backend = ModalBackend(ModalSettings(tier="namespace", owner=owner))
    await backend.start()
    sandbox = await backend.create(SandboxSpec(ttl=float(sys.argv[2]), workdir="/data"))
    await sandbox.write("file", b"kept")
    print(sandbox.id, flush=True)
    await asyncio.sleep(300)

asyncio.run(main())
"""


def settings(**changes: object) -> ModalSettings:
    return ModalSettings.model_validate({"tier": "namespace", "grace": 0.2, **changes})


@pytest.fixture
async def backend() -> AsyncIterator[ModalBackend]:
    backend = ModalBackend(settings())
    await backend.start()
    yield backend
    await backend.close()


def killed_owner(owner: str, ttl: float) -> str:
    """Return the id of a sandbox whose owner was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN, owner, str(ttl)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        identity = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    assert identity.startswith("sb-")
    return identity


async def test_sandboxes_of_a_killed_owner_are_removed_by_the_next_start(backend: ModalBackend) -> None:
    orphan = await asyncio.to_thread(killed_owner, "", LONG_S)
    mine = await backend.create(SandboxSpec())
    other = ModalBackend(settings())
    await other.start()
    assert {info.id for info in await other.list(mine=False)} & {orphan, mine.id} == {mine.id}
    await other.close()
    assert await mine.alive()


async def test_a_named_owners_sandbox_is_found_again_by_name_of_the_owner() -> None:
    orphan = await asyncio.to_thread(killed_owner, "service", LONG_S)
    stranger, heir = ModalBackend(settings()), ModalBackend(settings(owner="service"))
    await stranger.start()
    await heir.start()
    with pytest.raises(SandboxNotFound, match="another owner"):
        await stranger.get(orphan)
    found = await heir.get(orphan)
    assert (await found.exec("pwd; cat file")).stdout == b"/data\nkept"
    await found.extend(LONG_S)
    await found.delete()
    await heir.close()
    await stranger.close()


async def test_a_killed_owners_sandbox_ends_with_its_ttl_though_nobody_looks(backend: ModalBackend) -> None:
    orphan = await asyncio.to_thread(killed_owner, "nobody-else", 2.0)
    while orphan in {info.id for info in await backend.list(mine=False)}:
        await asyncio.sleep(0.1)


async def test_the_end_of_a_life_is_told_to_whoever_waits(backend: ModalBackend) -> None:
    sandbox = await backend.create(SandboxSpec(ttl=1.0))
    with pytest.raises(SandboxDied) as died:
        await sandbox.exec(f"sleep {LONG_S}", timeout=LONG_S)
    assert died.value.cause == "ttl"


async def test_a_sandbox_that_is_terminated_by_others_says_so(backend: ModalBackend) -> None:
    sandbox = await backend.create(SandboxSpec())
    other = ModalBackend(settings())
    await other.start()
    attached = await other.attach(sandbox.id)
    waiting = asyncio.create_task(sandbox.exec(f"sleep {LONG_S}", timeout=LONG_S))
    await asyncio.sleep(0.3)
    await attached.delete()
    with pytest.raises(SandboxDied) as died:
        await waiting
    assert died.value.cause == "killed"
    await other.close()


async def test_a_service_that_dies_mid_exec_is_an_error_in_bounded_time(tmp_path: Path) -> None:
    with modal_server(tmp_path / "dying") as server:
        backend = ModalBackend(settings(pulse=0.2, patience=1.0, request_timeout=5.0))
        await backend.start()
        sandbox = await backend.create(SandboxSpec())
        session = await sandbox.session()
        waiting = [
            asyncio.create_task(sandbox.exec(f"sleep {LONG_S}", timeout=LONG_S)),
            asyncio.create_task(session.run(f"sleep {LONG_S}", timeout=LONG_S)),
        ]
        await asyncio.sleep(0.5)
        server.kill()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [SandboxUnavailable, SandboxUnavailable]
        assert not await sandbox.alive()
        with pytest.raises(SandboxUnavailable):
            await backend.close()


async def test_missing_credentials_are_told_with_the_way_to_get_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MODAL_TOKEN_ID")
    monkeypatch.delenv("MODAL_TOKEN_SECRET")
    with pytest.raises(SandboxUnavailable, match="modal token new"):
        await ModalBackend(settings()).start()


async def test_wrong_credentials_are_told_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-wrong")
    with pytest.raises(SandboxUnavailable, match="refuses the credentials") as refused:
        await ModalBackend(settings()).start()
    assert "as-wrong" not in str(refused.value)


async def test_a_service_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODAL_SERVER_URL", "http://127.0.0.1:9")
    with pytest.raises(SandboxUnavailable):
        await ModalBackend(settings(request_timeout=3.0)).start()


async def test_before_the_start_nothing_is_created() -> None:
    with pytest.raises(SandboxUnavailable, match="start"):
        await ModalBackend(settings()).create(SandboxSpec())


@pytest.mark.parametrize(
    "spec, told",
    [
        (SandboxSpec(resources=Resources(processes=10)), "processes"),
        (SandboxSpec(resources=Resources(gpus=1)), "gpus"),
        (SandboxSpec(network=NetworkPolicy(mode="allowlist", hosts=("example.org",))), "unlogged_allowlists"),
        (SandboxSpec(image="/srv/image"), "registry"),
        (SandboxSpec(name="a name"), "name"),
        (SandboxSpec(labels={"tumbler-owner": "x"}), "label"),
        (SandboxSpec(ttl=10**6), "max_lifetime"),
        (SandboxSpec(isolation_min="gvisor"), "gvisor"),
        (SandboxSpec(workdir="here"), "workdir"),
    ],
)
async def test_what_modal_cannot_do_is_refused_by_name(backend: ModalBackend, spec: SandboxSpec, told: str) -> None:
    with pytest.raises(CapabilityError, match=told):
        await backend.create(spec)
    assert await backend.list() == []


async def test_an_unlogged_allow_list_holds(tmp_path: Path) -> None:
    backend = ModalBackend(settings(unlogged_allowlists=True))
    await backend.start()
    assert "allowlist" in backend.capabilities.network_modes
    with pytest.raises(CapabilityError, match="port"):
        await backend.create(SandboxSpec(network=NetworkPolicy(mode="allowlist", hosts=("example.org:443",))))
    sandbox = await backend.create(SandboxSpec(network=NetworkPolicy(mode="allowlist", cidrs=("192.0.2.0/24",))))
    refused = await sandbox.exec(["bash", "-c", "exec 3<>/dev/tcp/198.51.100.1/80"], timeout=30)
    assert refused.exit_code != 0
    assert await sandbox.egress() == ()
    await backend.close()


async def test_words_longer_than_a_call_and_bytes_that_are_no_text_arrive(backend: ModalBackend) -> None:
    sandbox = await backend.create(SandboxSpec())
    words = ["x" * 50_000, "ü" * 30_000, os.fsdecode(b"\xff\xfe"), "", "-n"]
    result = await sandbox.exec(["printf", "%s\n", *words])
    assert result.stdout.split(b"\n")[:-1] == [os.fsencode(word) for word in words]
    assert (await sandbox.exec("wc -c", input=b"y" * 3_000_000)).stdout.strip() == b"3000000"


async def test_limits_reach_the_service(backend: ModalBackend) -> None:
    sandbox = await backend.create(SandboxSpec(resources=Resources(memory_bytes=200 << 20, cpus=0.5)))
    result = await sandbox.exec("head -c 500000000 /dev/zero | tail")
    assert result.exit_code != 0 or result.oom


async def test_a_longer_life_than_the_service_gives_is_refused() -> None:
    backend = ModalBackend(settings(max_lifetime=100.0))
    await backend.start()
    sandbox = await backend.create(SandboxSpec(ttl=50))
    with pytest.raises(CapabilityError, match="max_lifetime"):
        await sandbox.extend(200)
    await sandbox.extend(60)
    await backend.close()


def test_one_process_may_use_many_event_loops(modal_service: Path) -> None:
    async def episode() -> bytes:
        backend = ModalBackend(settings())
        await backend.start()
        try:
            sandbox = await backend.create(SandboxSpec())
            return (await sandbox.exec("echo on")).stdout
        finally:
            await backend.close()

    assert [asyncio.run(episode()) for _ in range(3)] == [b"on\n"] * 3


async def test_root_is_had_where_the_service_is_root_and_never_by_accident(tmp_path: Path) -> None:
    with modal_server(tmp_path / "root", "root"):
        backend = ModalBackend(settings())
        await backend.start()
        # This machine's root inside has no other user to become.
        with pytest.raises(CapabilityError, match="user root"):
            await backend.create(SandboxSpec())
        with pytest.raises(CapabilityError, match="no user 'nobody-knows'"):
            await backend.create(SandboxSpec(user="nobody-knows"))
        sandbox = await backend.create(SandboxSpec(user="root"))
        assert (await sandbox.exec("id -u")).stdout == b"0\n"
        assert [info.id for info in await backend.list()] == [sandbox.id]
        await backend.close()


def test_credentials_are_no_settings() -> None:
    assert issubclass(ModalSettings, Settings)
    assert not [name for name in ModalSettings.model_fields if "token" in name or "secret" in name]
