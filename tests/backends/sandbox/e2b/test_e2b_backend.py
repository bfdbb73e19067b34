"""What the contract does not ask of the E2B backend: its refusals, owners, wrapper, and broken connections."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.process import process_pb
from protobuf import Oneof
from pydantic import SecretStr

from tumbler.contracts.sandbox import Mount, NetworkPolicy, Resources, SandboxSpec
from tumbler.errors import CapabilityError, SandboxDied, SandboxError, SandboxNotFound, SandboxUnavailable
from tumbler_backends.sandbox.e2b.admission import EgressRules, egress_rules, require_enforceable
from tumbler_backends.sandbox.e2b.backend import E2bBackend
from tumbler_backends.sandbox.e2b.labels import OWNER, labels_of, metadata_of, spec_from
from tumbler_backends.sandbox.e2b.life import Life
from tumbler_backends.sandbox.e2b.owners import anonymous_owner, is_dead
from tumbler_backends.sandbox.e2b.settings import E2bSettings
from tumbler_backends.sandbox.e2b.stream import ProcessStream
from tumbler_backends.sandbox.e2b.wrapper import exit_signal, key_of, status_signal, wrapped
from tumbler_backends.sandbox.posix.spawning import SpawnRecord

KEY, TREE = "0" * 32, "1" * 32


@pytest.fixture
def settings(front_end) -> E2bSettings:
    return E2bSettings(
        api_key=SecretStr(front_end.key),
        api_url=front_end.url,
        sandbox_url=front_end.url,
        tier="namespace",
        shared_processes=False,
        grace=0.2,
    )


@contextlib.asynccontextmanager
async def started(settings: E2bSettings) -> AsyncIterator[E2bBackend]:
    backend = E2bBackend(settings)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.close()


# refusals


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"resources": Resources(gpus=1)}, "gpus"),
        ({"mounts": (Mount(source="/a", target="/b"),)}, "mounts"),
        ({"workdir": "relative"}, "absolute"),
        ({"image": "a", "template": "b"}, "exclude"),
        ({"network": NetworkPolicy(mode="allowlist", hosts=("pypi.org:443",))}, "one port"),
        ({"network": NetworkPolicy(mode="allowlist", cidrs=("[2001:db8::]/32:443",))}, "one port"),
    ],
)
def test_what_e2b_cannot_enforce_is_refused_by_name(changes, word):
    with pytest.raises(CapabilityError, match=word):
        require_enforceable(replace(SandboxSpec(), **changes), E2bSettings())


def test_a_mode_that_the_service_lacks_is_refused():
    only = E2bSettings(network_modes=("none",))
    with pytest.raises(CapabilityError, match="public"):
        require_enforceable(SandboxSpec(network=NetworkPolicy(mode="public")), only)


def test_policies_are_told_in_e2bs_words():
    listed = NetworkPolicy(mode="allowlist", hosts=("*.pypi.org",), cidrs=("203.0.113.0/24", "2001:db8::/32"))
    require_enforceable(SandboxSpec(network=listed), E2bSettings())
    allowed = ("*.pypi.org", "203.0.113.0/24", "2001:db8::/32")
    assert egress_rules(listed) == EgressRules(allowed=allowed)
    assert egress_rules(listed).denied == ("0.0.0.0/0",)
    assert egress_rules(NetworkPolicy()) == egress_rules(NetworkPolicy(mode="allowlist")) == EgressRules()
    assert egress_rules(NetworkPolicy(mode="public")) == EgressRules(internet=True)


async def test_without_a_key_nothing_starts(monkeypatch):
    monkeypatch.delenv("E2B_API_KEY", raising=False)
    with pytest.raises(SandboxUnavailable, match="E2B_API_KEY"):
        await E2bBackend(E2bSettings()).start()


async def test_a_wrong_key_is_told_and_never_shown(settings):
    wrong = settings.model_copy(update={"api_key": SecretStr("e2b_secret")})
    with pytest.raises(SandboxError, match="refused the API key") as refused:
        await E2bBackend(wrong).start()
    assert "e2b_secret" not in f"{refused.value!r} {wrong!r}"


async def test_a_service_that_is_not_there_is_unavailable(settings):
    nowhere = settings.model_copy(update={"api_url": "http://127.0.0.1:9"})
    with pytest.raises(SandboxUnavailable):
        await E2bBackend(nowhere).start()


def test_importing_the_plugin_imports_no_sdk():
    code = (
        "import sys, tumbler_backends.sandbox.e2b.plugin; print([n for n in ('e2b', 'pydantic') if n in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"[]"


# owners and metadata


def test_metadata_holds_the_spec_without_values_and_files():
    spec = SandboxSpec(
        labels={"run": "r"}, env={"TOKEN": "secret"}, files={"f": b"secret"}, workdir="/w", ttl=7, name="n",
        network=NetworkPolicy(mode="allowlist", hosts=("pypi.org",)),
    )  # fmt: skip
    metadata = metadata_of(spec, "me")
    assert "secret" not in str(metadata)
    assert labels_of(metadata) == {"run": "r"}
    assert spec_from(metadata) == replace(spec, env={}, files={})
    assert spec_from({"of": "another"}).labels == {"of": "another"}
    with pytest.raises(CapabilityError, match="tumbler-"):
        metadata_of(SandboxSpec(labels={OWNER: "x"}), "me")


def test_only_a_process_that_is_certainly_dead_is_a_dead_owner():
    own = anonymous_owner()
    assert not is_dead(own)
    kind, host, pid, began, number = own.split(":")
    assert is_dead(":".join([kind, host, pid, str(int(began) + 1), number]))
    assert not is_dead(":".join([kind, "another-machine", "1", "1", number]))
    for other in ("", "a name", "process:1"):
        assert not is_dead(other)


async def test_a_dead_owners_sandbox_is_swept_and_a_living_ones_is_not(settings):
    kind, host, pid, began, number = anonymous_owner().split(":")
    dead = settings.model_copy(update={"owner": ":".join([kind, host, pid, str(int(began) + 1), number])})
    async with started(settings) as living, started(dead) as orphaned:
        kept, orphan = await living.create(SandboxSpec()), await orphaned.create(SandboxSpec())
        async with started(settings) as sweeper:
            assert await sweeper.reconcile() == 0  # its start has swept already
        assert await kept.alive()
        assert not await orphan.alive()
        with pytest.raises(SandboxDied):
            await orphan.exec("true")


async def test_a_named_owner_finds_its_sandbox_and_its_process_again(settings):
    named = settings.model_copy(update={"owner": "the-service"})
    async with started(named) as before, started(named) as after, started(settings) as stranger:
        box = await before.create(SandboxSpec(name="lasting", workdir="/work/here", labels={"a": "b"}))
        await box.spawn("read x; echo $x; exit 5", exec_id="job", stdin=True)
        found = await after.get("lasting")
        assert (found.id, found.spec.workdir, found.spec.labels) == (box.id, "/work/here", {"a": "b"})
        process = await found.process("job")
        await process.write_stdin(b"heard\n")
        assert (await process.wait(60)).exit_code == 5
        assert (await process.read()).data == b"heard\n"
        with pytest.raises(SandboxNotFound):
            await stranger.get("lasting")
        assert [info.id for info in await stranger.list(labels={"a": "b"}, mine=False)] == [box.id]
        assert await stranger.list(labels={"a": "b"}) == []
        attached = await stranger.attach(box.id)
        await attached.delete()
        assert not await box.alive()


# the wrapper


def run_wrapped(*words: str, shell: str = "sh") -> tuple[int, bytes, bytes]:
    done = subprocess.run([shell, *wrapped(words, key=KEY, tree=TREE, agent=False)], capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


def mark(status: int) -> bytes:
    return b"\0%s:%d\0" % (KEY.encode(), status)


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_the_wrapper_marks_the_end_in_both_streams(shell):
    assert run_wrapped("sh", "-c", "echo out; echo err >&2; exit 3", shell=shell) == (
        3,
        b"out\n" + mark(3),
        b"err\n" + mark(3),
    )
    assert run_wrapped("sh", "-c", "kill -9 $$", shell=shell) == (137, mark(137), mark(137))
    assert run_wrapped("env", shell=shell)[1].count(f"TUMBLER_TREE={TREE}".encode()) == 1
    assert b"_tumbler" not in run_wrapped("env", shell=shell)[1]


def test_a_wrapper_is_known_by_its_arguments():
    assert key_of(wrapped(["true"], key=KEY, tree=TREE, agent=True)) == (KEY, TREE)
    assert key_of(["-c", "true"]) is None


def test_exits_and_signals_are_told_apart():
    assert [exit_signal(status) for status in (0, 7, 127, 128, 130, 137, 255)] == [None, None, None, None, 2, 9, None]
    assert [status_signal(words) for words in ("signal: killed", "signal: segmentation fault (core dumped)")] == [9, 11]
    assert status_signal("exit status 1") is None


# broken connections


class FakeWire:
    """A wire whose process answers each connection with the next of some streams."""

    def __init__(self, *streams: list[object]) -> None:
        self.life = Life("box", expires=0)
        self.stream_headers: dict[str, str] = {}
        self.processes = self
        self._streams = iter(streams)

    def connect(self, request: object, headers: object) -> object:
        return next(self._streams)

    async def opened(self, events: list[object]) -> tuple[object, AsyncIterator[object]]:
        return None, played(events)

    async def translated(self, error: Exception) -> Exception:
        return SandboxUnavailable(str(error))


async def played(events: list[object]) -> AsyncIterator[object]:
    for event in events:
        if isinstance(event, Exception):
            raise event
        yield event


def said(data: bytes) -> process_pb.StartResponse:
    event = process_pb.ProcessEvent.DataEvent(output=Oneof("stdout", data))
    return process_pb.StartResponse(event=process_pb.ProcessEvent(event=Oneof("data", event)))


def ended(code: int) -> process_pb.StartResponse:
    event = process_pb.ProcessEvent.EndEvent(exit_code=code, exited=True, status=f"exit status {code}")
    return process_pb.StartResponse(event=process_pb.ProcessEvent(event=Oneof("end", event)))


async def followed(first: list[object], *later: list[object], during: Callable[[FakeWire], None] = lambda _: None):
    wire = FakeWire(*later)
    record = SpawnRecord("id", ["true"], max_output=1000)
    stream = ProcessStream(wire, 7, KEY, record, terminal=False)
    during(wire)
    await stream.run(played(first))
    return wire, record


async def test_a_broken_connection_is_made_again():
    broken = ConnectError(Code.UNAVAILABLE, "the link broke")
    _, record = await followed([said(b"one "), broken], [said(b"two"), ended(4)])
    assert (record.stdout.since(0), (await record.wait(1)).exit_code) == (b"one two", 4)


async def test_a_connection_that_stays_broken_is_told():
    broken = ConnectError(Code.UNAVAILABLE, "the link broke")
    _, record = await followed([broken], *([broken] for _ in range(9)))
    with pytest.raises(SandboxUnavailable, match="broke"):
        await record.wait(1)


async def test_a_dead_sandbox_is_told_and_not_asked_again():
    broken = ConnectError(Code.UNAVAILABLE, "the link broke")
    _, record = await followed([broken], during=lambda wire: wire.life.end("it was deleted", "deleted"))
    with pytest.raises(SandboxDied, match="deleted"):
        await record.wait(1)


async def test_half_a_mark_is_output_when_nothing_follows():
    wire = FakeWire()
    record = SpawnRecord("id", ["true"], max_output=1000)
    stream = ProcessStream(wire, 7, KEY, record, terminal=False)

    async def silent() -> AsyncIterator[object]:
        yield said(b"word\0")
        await asyncio.sleep(300)

    task = asyncio.create_task(stream.run(silent()))
    seen = b""
    while not seen.endswith(b"\0"):
        seen += (await record.read("stdout", offset=len(seen), limit=100, timeout=60)).data
    assert seen == b"word\0"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
