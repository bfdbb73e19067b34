"""A pool lends living sandboxes, each once, and never more than its maximum."""

import asyncio
from dataclasses import replace

import pytest

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.errors import CapabilityError, QuotaExceeded, SandboxStartFailed, SandboxUnavailable
from tumbler.sandboxes import SandboxPool
from tumbler.testing import MemorySandboxBackend


async def until(holds):
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)


class Counting(MemorySandboxBackend):
    """Counts the living, and fails as often as it is told."""

    def __init__(self, failures=0):
        super().__init__()
        self.failures = failures
        self.most = 0

    async def create(self, spec):
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise SandboxStartFailed("no room", "create")
        made = await super().create(spec)
        self.most = max(self.most, len(self.living))
        return made

    @property
    def living(self):
        return [sandbox for sandbox in self.sandboxes if not sandbox.deleted]


async def test_a_pool_is_filled_before_it_is_asked():
    backend = Counting()
    async with SandboxPool(backend, SandboxSpec(), minimum=3, maximum=5) as pool:
        await until(lambda: pool.counts.ready == 3)
        async with pool.acquire() as sandbox:
            assert (await sandbox.exec("echo on")).stdout == b"on\n"
            await until(lambda: pool.counts.ready == 3)
            assert pool.counts.lent == 1
    assert backend.living == []


async def test_each_sandbox_is_lent_once():
    backend = Counting()
    seen = []
    async with SandboxPool(backend, SandboxSpec(), minimum=1, maximum=2) as pool:
        for _ in range(5):
            async with pool.acquire() as sandbox:
                seen.append(sandbox.id)
            assert sandbox.deleted
    assert len(set(seen)) == 5


async def test_no_more_than_the_maximum_live():
    backend = Counting()

    async def user(pool):
        async with pool.acquire():
            await asyncio.sleep(0.001)

    async with SandboxPool(backend, SandboxSpec(), minimum=2, maximum=4) as pool:
        await asyncio.gather(*(user(pool) for _ in range(40)))
        assert pool.counts.served == 40
        assert pool.counts.lent == pool.counts.waiting == 0
    assert 1 < backend.most <= 4


async def test_waiting_is_bounded_and_says_why():
    async with SandboxPool(Counting(), SandboxSpec(), minimum=0, maximum=1) as pool, pool.acquire():
        with pytest.raises(QuotaExceeded, match="1 of at most 1 are lent"):
            async with pool.acquire(timeout=0.05):
                raise AssertionError("there is none to lend")


async def test_one_that_died_is_not_lent():
    backend = Counting()
    async with SandboxPool(backend, SandboxSpec(), minimum=1, maximum=2) as pool:
        await until(lambda: pool.counts.ready == 1)
        await backend.sandboxes[0].delete()
        async with pool.acquire() as sandbox:
            assert await sandbox.alive()
        assert pool.counts.found_dead == 1


async def test_failed_starts_are_tried_again():
    backend = Counting(failures=2)
    async with SandboxPool(backend, SandboxSpec(), minimum=0, maximum=2) as pool:
        async with pool.acquire(timeout=30) as sandbox:
            assert await sandbox.alive()
        assert pool.counts.failed_starts == 2


async def test_starts_that_go_on_failing_are_told():
    async with SandboxPool(Counting(failures=10**6), SandboxSpec(), minimum=0, maximum=2) as pool:
        with pytest.raises(SandboxUnavailable, match="no room") as refused:
            async with pool.acquire(timeout=0.3):
                raise AssertionError("there is none to lend")
        assert isinstance(refused.value.__cause__, SandboxStartFailed)


async def test_a_spec_that_is_refused_is_told_at_once():
    spec = SandboxSpec(isolation_min="vm")
    async with SandboxPool(Counting(), spec, minimum=0, maximum=2) as pool:
        with pytest.raises(CapabilityError):
            async with pool.acquire(timeout=30):
                raise AssertionError("there is none to lend")


async def test_a_cancelled_wait_loses_no_sandbox():
    backend = Counting()
    async with SandboxPool(backend, SandboxSpec(), minimum=0, maximum=1) as pool:
        async with pool.acquire():
            waiting = asyncio.create_task(pool.acquire().__aenter__())
            await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with pool.acquire(timeout=30) as sandbox:
            assert await sandbox.alive()
    assert backend.living == []


async def test_a_drained_pool_lends_no_more_and_can_start_again():
    backend = Counting()
    pool = SandboxPool(backend, SandboxSpec(), minimum=2, maximum=2)
    pool.start()
    await until(lambda: pool.counts.ready == 2)
    await pool.drain()
    assert backend.living == []
    with pytest.raises(SandboxUnavailable, match="not started"):
        async with pool.acquire():
            raise AssertionError("there is none to lend")
    pool.start()
    async with pool.acquire():
        pass
    await pool.close()
    assert backend.living == []


async def test_closing_refuses_those_who_wait():
    pool = SandboxPool(Counting(), SandboxSpec(), minimum=0, maximum=1)
    pool.start()
    async with pool.acquire():
        waiting = asyncio.create_task(pool.acquire().__aenter__())
        await until(lambda: pool.counts.waiting == 1)
        await pool.close()
        with pytest.raises(SandboxUnavailable, match="closed"):
            await waiting


@pytest.mark.parametrize("spec", [{"name": "one"}, {"idempotency_key": "k"}])
def test_a_spec_for_one_sandbox_is_refused(spec):
    with pytest.raises(ValueError, match="neither name nor idempotency_key"):
        SandboxPool(Counting(), replace(SandboxSpec(), **spec))


@pytest.mark.parametrize(("minimum", "maximum"), [(-1, 1), (2, 1), (0, 0)])
def test_bounds_that_cannot_be_are_refused(minimum, maximum):
    with pytest.raises(ValueError, match="minimum"):
        SandboxPool(Counting(), SandboxSpec(), minimum=minimum, maximum=maximum)
