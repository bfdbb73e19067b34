"""The part of the complete sandbox suite about finding and counting sandboxes."""

import asyncio
import math
import time

import pytest

from tumbler.contracts.sandbox import Sandbox, SandboxSpec
from tumbler.contracts.sandbox_control import CompleteSandbox, ManagedBackend
from tumbler.errors import CapabilityError, SandboxNameTaken, SandboxNotFound
from tumbler.testing.sandbox_fixtures import LONG_S, Boxes, CompleteFixtures

__all__ = ["FindTests"]


@pytest.mark.asyncio(loop_scope="class")
class FindTests(CompleteFixtures):
    """Names, labels, keys, and counts."""

    async def test_a_sandbox_describes_itself(self, boxes: Boxes) -> None:
        """As the backend's list does."""
        began = time.time()
        box = await boxes.complete(SandboxSpec(labels={"run": "r", "trajectory": "t"}, name="described", ttl=1000))
        info = await box.info()
        assert (info.id, info.name, info.state, info.tier) == (box.id, "described", "running", box.tier)
        assert dict(info.labels) == {"run": "r", "trajectory": "t"}
        assert info.backend
        assert began - LONG_S < info.created < time.time() + LONG_S
        assert abs(info.expires - info.created - 1000) < LONG_S
        assert (box.spec.name, box.spec.ttl) == ("described", 1000)

    async def test_living_sandboxes_are_listed_by_labels(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """All labels must be there; the oldest comes first."""
        first = await boxes(SandboxSpec(labels={"suite": "list", "n": "1"}))
        second = await boxes(SandboxSpec(labels={"suite": "list", "n": "2"}))
        await boxes(SandboxSpec(labels={"suite": "other"}))
        assert [info.id for info in await managed.list(labels={"suite": "list"})] == [first.id, second.id]
        assert [info.id for info in await managed.list(labels={"suite": "list", "n": "2"})] == [second.id]
        assert await managed.list(labels={"suite": "list", "n": "3"}) == []
        everything = {info.id for info in await managed.list(mine=False)}
        assert {first.id, second.id} <= {info.id for info in await managed.list()} <= everything
        await first.delete()
        assert [info.id for info in await managed.list(labels={"suite": "list"})] == [second.id]

    async def test_a_sandbox_is_got_by_id_and_by_name(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """As long as it lives."""
        box = await boxes(SandboxSpec(name="got"))
        await box.write("file", b"mine")
        for identity in (box.id, "got"):
            found = await managed.get(identity)
            assert found.id == box.id
            assert await found.read("file") == b"mine"
        await box.delete()
        for identity in (box.id, "got", "never-was"):
            with pytest.raises(SandboxNotFound):
                await managed.get(identity)

    async def test_a_name_belongs_to_one_living_sandbox(self, boxes: Boxes) -> None:
        """Also when two ask at once; afterwards it is free again."""
        outcomes = await asyncio.gather(*(boxes(SandboxSpec(name="single")) for _ in range(2)), return_exceptions=True)
        made = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert len(made) == 1
        assert isinstance(next(outcome for outcome in outcomes if outcome not in made), SandboxNameTaken)
        with pytest.raises(SandboxNameTaken, match="single") as refused:
            await boxes(SandboxSpec(name="single"))
        assert not refused.value.infra
        await made[0].delete()
        assert await (await boxes(SandboxSpec(name="single"))).alive()

    async def test_a_key_makes_creation_repeatable(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """One sandbox, also when several ask at once."""
        spec = SandboxSpec(idempotency_key="once", labels={"suite": "key"})
        made = await asyncio.gather(*(boxes(spec) for _ in range(4)))
        again = await boxes(spec)
        assert {box.id for box in [*made, again]} == {again.id}
        assert len(await managed.list(labels={"suite": "key"})) == 1
        await again.delete()
        assert (await boxes(spec)).id != again.id

    async def test_attaching_finds_a_living_sandbox_or_is_refused(
        self, managed: ManagedBackend, box: CompleteSandbox
    ) -> None:
        """As the capability says."""
        if not managed.capabilities.attach:
            with pytest.raises(CapabilityError):
                await managed.attach(box.id)
            return
        await box.write("file", b"mine")
        attached = await managed.attach(box.id)
        assert attached.id == box.id
        assert (await attached.exec("cat file")).stdout == b"mine"
        with pytest.raises(SandboxNotFound):
            await managed.attach("never-was")

    async def test_reconciling_spares_the_living(self, managed: ManagedBackend, sandbox: Sandbox) -> None:
        """It counts what it removed."""
        assert await managed.reconcile() >= 0
        assert await sandbox.alive()

    async def test_what_happens_is_counted(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """Sandboxes, commands and how long starts took."""
        before = managed.measure()
        one, _ = await boxes(), await boxes()
        await one.exec("true")
        during = managed.measure()
        await one.delete()
        after = managed.measure()
        assert during.created == before.created + 2
        assert during.sandboxes == before.sandboxes + 2
        assert during.commands > before.commands
        assert (after.deleted, after.sandboxes) == (before.deleted + 1, before.sandboxes + 1)
        counts = [count for _, count in sorted(after.start_seconds.items())]
        assert max(after.start_seconds) == math.inf
        assert counts == sorted(counts)
        assert counts[-1] >= 2

    async def test_use_is_measured(self, box: CompleteSandbox) -> None:
        """What the backend does not know is None."""
        await box.exec("head -c 3000000 /dev/urandom >file")
        usage = await box.usage()
        for value in (usage.cpu_seconds, usage.memory_bytes, usage.memory_peak_bytes, usage.processes):
            assert value is None or value >= 0
        assert usage.disk_bytes is None or usage.disk_bytes >= 3_000_000
