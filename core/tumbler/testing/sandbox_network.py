"""The part of the complete sandbox suite about ways in and out: ports, policies, the egress log."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import get_args

import pytest

from tumbler.contracts.sandbox import NetworkPolicy, SandboxSpec
from tumbler.contracts.sandbox_control import CompleteSandbox, EgressRecord, ManagedBackend
from tumbler.errors import CapabilityError
from tumbler.testing.sandbox_fixtures import Boxes, CompleteFixtures, eventually

__all__ = ["NetworkTests"]

_PORT = 8931
_UNROUTED = "192.0.2.1"
"""An address for documentation: nobody has it."""


@pytest.mark.asyncio(loop_scope="class")
class NetworkTests(CompleteFixtures):
    """What is not offered is refused; what is refused inside is logged."""

    def web_server(self, port: int) -> Sequence[str]:
        """Return a command that serves the file `page` of its folder by HTTP; override it for images without Python."""
        return ["python3", "-m", "http.server", str(port), "--bind", "127.0.0.1"]

    async def test_a_port_inside_is_reached_from_here(self, managed: ManagedBackend, box: CompleteSandbox) -> None:
        """Or asking is refused."""
        if not managed.capabilities.expose:
            with pytest.raises(CapabilityError):
                await box.expose(_PORT)
            return
        await box.write("page", b"from inside")
        server = await box.spawn(self.web_server(_PORT))
        url = await box.expose(_PORT)

        async def answers() -> bool:
            ended = await server.poll()
            assert ended is None, f"the web server ended: {ended}, {await server.read('stderr')}"
            return await asyncio.to_thread(_fetch, f"{url.rstrip('/')}/page") == b"from inside"

        await eventually(answers, "the page should be served")
        assert await box.expose(_PORT) == url
        await server.kill()

    async def test_policies_that_are_not_offered_change_nothing(
        self, managed: ManagedBackend, box: CompleteSandbox
    ) -> None:
        """The others are taken, and back again."""
        offered = managed.capabilities.network_modes
        original = box.spec.network
        for mode in get_args(NetworkPolicy.__annotations__["mode"]):
            policy = NetworkPolicy(mode=mode, hosts=("allowed.invalid",) if mode == "allowlist" else ())
            if mode in offered:
                await box.set_network(policy)
                await box.set_network(original)
            else:
                with pytest.raises(CapabilityError, match=mode):
                    await box.set_network(policy)
        assert (await box.exec("echo on")).stdout == b"on\n"

    async def test_what_an_allow_list_refuses_is_logged(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """With the trajectory, by address and by name."""
        policy = NetworkPolicy(mode="allowlist", hosts=("allowed.invalid",))
        spec = SandboxSpec(network=policy, labels={"trajectory": "t-7"})
        if "allowlist" not in managed.capabilities.network_modes:
            with pytest.raises(CapabilityError, match="allowlist"):
                await boxes(spec)
            return
        box = await boxes.complete(spec)
        for target in (f"{_UNROUTED}/81", "denied.invalid/82", "169.254.169.254/80"):
            result = await box.exec(["bash", "-c", f"exec 3<>/dev/tcp/{target} && head -c 1 <&3"], timeout=30)
            assert result.exit_code != 0, target

        async def logged() -> bool:
            return {_UNROUTED, "denied.invalid", "169.254.169.254"} <= _refused(await box.egress())

        await eventually(logged, "the refusals should be logged")
        records = await box.egress()
        assert {record.sandbox for record in records} == {box.id}
        assert {record.trajectory for record in records} == {"t-7"}
        assert not [record for record in records if record.allowed and record.host != "allowed.invalid"]
        assert all(record.reason for record in records)
        times = [record.time for record in records]
        assert times == sorted(times)

    async def test_a_lock_comes_into_force_at_once(self, managed: ManagedBackend, boxes: Boxes) -> None:
        """Set up with a network, work without."""
        wider = [mode for mode in managed.capabilities.network_modes if mode == "allowlist"]
        box = await boxes.complete(
            SandboxSpec(network=NetworkPolicy(mode="allowlist", cidrs=(f"{_UNROUTED}/32",))) if wider else SandboxSpec()
        )
        if "none" not in managed.capabilities.network_modes:
            with pytest.raises(CapabilityError, match="none"):
                await box.set_network(NetworkPolicy())
            return
        await box.set_network(NetworkPolicy())
        result = await box.exec(["bash", "-c", f"exec 3<>/dev/tcp/{_UNROUTED}/80 && head -c 1 <&3"], timeout=30)
        assert result.exit_code != 0
        assert not result.timed_out


def _refused(records: Sequence[EgressRecord]) -> set[str]:
    refused = [record for record in records if not record.allowed]
    return {name for record in refused for name in (record.host, record.address) if name is not None}


def _fetch(url: str) -> bytes:
    try:
        # The URL is the backend's own answer.
        with urllib.request.urlopen(url, timeout=10) as response:
            return bytes(response.read())
    except OSError:  # not listening yet
        return b""
