"""The contract of `tumbler.contracts.sandbox`, as tests that every sandbox backend must pass.

Subclass `SandboxSuite` in a test module and override `make_backend`; `adapt` changes the tests' specs where
the backend needs it. The sandboxes need a POSIX shell, bash and coreutils.
"""

import asyncio
from dataclasses import replace

import pytest

from tumbler.contracts.sandbox import IsolationTier, NetworkPolicy, Sandbox, SandboxBackend, SandboxSpec, Session
from tumbler.errors import CapabilityError, SandboxDied
from tumbler.testing.sandbox_exec import ExecTests
from tumbler.testing.sandbox_files import FileTests
from tumbler.testing.sandbox_fixtures import LONG_S, Boxes, eventually
from tumbler.testing.sandbox_sessions import SessionTests

__all__ = ["SandboxSuite"]

_TIERS: tuple[IsolationTier, ...] = ("process", "namespace", "gvisor", "vm")


@pytest.mark.asyncio(loop_scope="class")
class SandboxSuite(ExecTests, SessionTests, FileTests):
    """Subclass it and override `make_backend`; everything else comes with it."""

    async def test_objects_keep_their_protocols(self, backend: SandboxBackend, sandbox: Sandbox) -> None:
        """Members are all there."""
        assert isinstance(backend, SandboxBackend)
        assert isinstance(sandbox, Sandbox)
        session = await sandbox.session()
        assert isinstance(session, Session)
        await session.close()

    async def test_the_tier_is_what_the_backend_claims(self, backend: SandboxBackend, sandbox: Sandbox) -> None:
        """The capability is not better than what is obtained."""
        assert _TIERS.index(sandbox.tier) >= _TIERS.index(backend.capabilities.tier)

    # life

    async def test_a_new_sandbox_is_alive_and_a_deleted_one_is_not(self, boxes: Boxes) -> None:
        """`alive` never raises."""
        sandbox = await boxes()
        assert await sandbox.alive()
        await sandbox.delete()
        assert not await sandbox.alive()

    async def test_ids_are_unique_and_sandboxes_apart(self, boxes: Boxes) -> None:
        """Not even /tmp is shared."""
        one, two = await asyncio.gather(boxes(), boxes())
        assert one.id != two.id
        await one.exec("echo secret | tee file /tmp/file")
        assert (await two.exec("cat file /tmp/file")).stdout == b""
        await asyncio.gather(one.delete(), two.delete())

    async def test_delete_ends_what_is_running(self, boxes: Boxes) -> None:
        """Whoever waits is told that the sandbox is gone."""
        sandbox = await boxes()
        session = await sandbox.session()
        waiting = [
            asyncio.create_task(sandbox.exec(f"sleep {LONG_S}", timeout=LONG_S)),
            asyncio.create_task(session.run(f"sleep {LONG_S}", timeout=LONG_S)),
        ]
        await asyncio.sleep(0.3)
        await sandbox.delete()
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, SandboxDied)

    async def test_delete_may_be_repeated_and_later_use_is_refused(self, boxes: Boxes) -> None:
        """Once, twice, and at the same time."""
        sandbox = await boxes()
        await asyncio.gather(sandbox.delete(), sandbox.delete())
        await sandbox.delete()
        with pytest.raises(SandboxDied):
            await sandbox.exec("true")
        with pytest.raises(SandboxDied):
            await sandbox.write("file", b"")

    async def test_delete_goes_on_when_its_caller_is_cancelled(self, boxes: Boxes) -> None:
        """No half-deleted sandbox is left."""
        sandbox = await boxes()
        task = asyncio.create_task(sandbox.delete())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await sandbox.delete()
        assert not await sandbox.alive()

    async def test_a_sandbox_past_its_ttl_is_reaped(self, boxes: Boxes) -> None:
        """Whoever still holds it."""
        sandbox = await boxes(SandboxSpec(ttl=0.2))

        async def dead() -> bool:
            return not await sandbox.alive()

        await eventually(dead, "the sandbox should be reaped")
        with pytest.raises(SandboxDied) as died:
            await sandbox.exec("true")
        assert died.value.cause in {"ttl", None}

    async def test_many_sandboxes_at_once(self, boxes: Boxes) -> None:
        """A burst is served in full, each with its own output."""

        async def episode(number: int) -> bytes:
            sandbox = await boxes(SandboxSpec(files={"n": str(number).encode()}))
            try:
                session = await sandbox.session()
                return (await session.run("cat n")).stdout
            finally:
                await sandbox.delete()

        outputs = await asyncio.gather(*(episode(number) for number in range(24)))
        assert outputs == [str(number).encode() for number in range(24)]

    # refusals

    async def test_network_modes_that_are_not_offered_are_refused(self, backend: SandboxBackend) -> None:
        """Before anything starts."""
        offered = backend.capabilities.network_modes
        policies = (
            NetworkPolicy(mode="none"),
            NetworkPolicy(mode="allowlist", hosts=("example.org",)),
            NetworkPolicy(mode="public"),
        )
        for policy in policies:
            if policy.mode not in offered:
                with pytest.raises(CapabilityError, match=policy.mode):
                    await backend.create(replace(self.adapt(SandboxSpec()), network=policy))

    async def test_a_stronger_isolation_than_the_backends_is_refused(
        self, backend: SandboxBackend, boxes: Boxes
    ) -> None:
        """A weaker demand is met."""
        own = _TIERS.index(backend.capabilities.tier)
        for position, tier in enumerate(_TIERS):
            spec = replace(self.adapt(SandboxSpec()), isolation_min=tier)
            if position > own:
                with pytest.raises(CapabilityError, match=tier):
                    await backend.create(spec)
            else:
                boxes.adopt([await backend.create(spec)])

    async def test_without_network_nothing_is_reachable(self, backend: SandboxBackend, boxes: Boxes) -> None:
        """A connection out of the sandbox fails at once; a backend that cannot do that refuses."""
        if "none" not in backend.capabilities.network_modes:
            with pytest.raises(CapabilityError, match="none"):
                await backend.create(replace(self.adapt(SandboxSpec()), network=NetworkPolicy()))
            return
        sandbox = await boxes()
        for host in ("192.0.2.1", "169.254.169.254"):
            result = await sandbox.exec(["bash", "-c", f"exec 3<>/dev/tcp/{host}/80"], timeout=30)
            assert result.exit_code != 0
            assert not result.timed_out
