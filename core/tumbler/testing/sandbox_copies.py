"""The part of the complete sandbox suite about copies: snapshots, templates, forks."""

import asyncio

import pytest

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.contracts.sandbox_control import ManagedBackend
from tumbler.errors import CapabilityError, SandboxNotFound
from tumbler.testing.sandbox_fixtures import LONG_S, Boxes, CompleteFixtures

__all__ = ["CopyTests"]

_FILL = "mkdir d; echo kept >d/file; chmod 750 d/file; ln -s d/file link; echo early >changed"
_SHOW = "cat d/file link changed; stat -c %a d/file"


@pytest.mark.asyncio(loop_scope="class")
class CopyTests(CompleteFixtures):
    """Files are copied, processes are not; where there are no copies, asking is refused."""

    async def test_a_new_sandbox_starts_from_a_snapshot(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """With the files of that moment, whatever becomes of the first one."""
        box = await boxes.complete()
        await box.exec(_FILL, check=True)
        if not managed.capabilities.snapshots:
            with pytest.raises(CapabilityError):
                await box.snapshot()
            assert await managed.templates() == []
            return
        template = await box.snapshot()
        await box.exec("echo late >changed")
        listed = await managed.templates()
        assert template.id in [each.id for each in listed]
        assert template.source == box.id
        await box.delete()
        copies = [await boxes.complete(SandboxSpec(template=template.id)) for _ in range(2)]
        await managed.delete_template(template.id)
        for copy in copies:
            assert (await copy.exec(_SHOW)).stdout.split() == [b"kept", b"kept", b"early", b"750"]
            await copy.exec("echo own >changed")

    async def test_a_removed_template_is_gone(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """For new sandboxes, and for a second removal."""
        box = await boxes.complete()
        if not managed.capabilities.snapshots:
            with pytest.raises((CapabilityError, SandboxNotFound)):
                await managed.delete_template("never-was")
            return
        template = await box.snapshot()
        await managed.delete_template(template.id)
        assert template.id not in [each.id for each in await managed.templates()]
        with pytest.raises(SandboxNotFound):
            await managed.delete_template(template.id)
        with pytest.raises(SandboxNotFound):
            await boxes(SandboxSpec(template=template.id))

    async def test_forks_are_sandboxes_of_their_own(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """With the same files and variables."""
        box = await boxes.complete(SandboxSpec(env={"SUITE": "same"}))
        await box.exec(_FILL, check=True)
        if not managed.capabilities.snapshots:
            with pytest.raises(CapabilityError):
                await box.fork()
            return
        before = {template.id for template in await managed.templates()}
        forks = await box.fork(3)
        boxes.adopt(forks)
        assert len({box.id, *(fork.id for fork in forks)}) == 4
        for number, fork in enumerate(forks):
            assert (await fork.exec(_SHOW)).stdout.split()[:3] == [b"kept", b"kept", b"early"]
            await fork.exec(f"echo {number} >changed")
        assert [await fork.read("changed") for fork in forks] == [b"0\n", b"1\n", b"2\n"]
        assert await box.read("changed") == b"early\n"
        assert (await forks[0].exec("echo $SUITE")).stdout == b"same\n"
        assert {template.id for template in await managed.templates()} == before

    async def test_forks_live_on_without_their_origin(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """Also a fork of a fork."""
        box = await boxes.complete()
        if not managed.capabilities.snapshots:
            with pytest.raises(CapabilityError):
                await box.fork()
            return
        await box.write("file", b"kept")
        (child,) = await box.fork()
        boxes.adopt([child])
        await box.delete()
        spec = await managed.get(child.id)
        (grandchild,) = await spec.fork()
        boxes.adopt([grandchild])
        await child.delete()
        assert (await asyncio.wait_for(grandchild.exec("cat file"), LONG_S)).stdout == b"kept"
