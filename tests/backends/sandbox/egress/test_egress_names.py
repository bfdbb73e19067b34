"""Names: when the resolver is asked, and which of its answers are believed."""

import asyncio

import pytest

from tumbler.contracts.sandbox import NetworkPolicy


class FakeResolver:
    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, name: str) -> list[str]:
        self.asked.append(name)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def curl(box, name, port):
    return (await box.inside.run("curl", "-sS", "-m", "9", f"http://{name}:{port}/"))[0]


ALL = NetworkPolicy(mode="allowlist", hosts=("*.site.test",))


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "loopback"),
        ("127.8.8.8", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("0.0.0.0", "no address of a host"),
        ("::", "no address of a host"),
        ("10.1.2.3", "private"),
        ("172.17.0.1", "private"),
        ("fd12::1", "private"),
        ("100.64.0.1", "shared"),
        ("169.254.169.254", "metadata"),
        ("fe80::1%lo", "metadata"),
        ("198.18.0.7", "gateway's names"),
        ("64:ff9b::7f00:1", "stands for an IPv4"),
        ("2002:7f00:1::", "stands for an IPv4"),
    ],
)
@pytest.mark.parametrize("mode", ["allowlist", "public"])
async def test_a_name_that_is_rebound_inwards_is_refused(lab, origin, address, why, mode):
    resolver = FakeResolver([address])
    box = await lab(NetworkPolicy(mode=mode, hosts=ALL.hosts), resolver=resolver)
    assert await curl(box, "a.site.test", origin.port) != 0
    record = await box.recorded(lambda record: record.protocol == "tcp")
    assert (record.host, record.allowed) == ("a.site.test", False)
    assert why in record.reason
    assert origin.visits == 0


async def test_every_connection_is_resolved_and_judged_anew(lab, origin):
    resolver = FakeResolver(["192.0.2.1"], ["127.0.0.1"])
    box = await lab(ALL, resolver=resolver, connect_timeout=0.5)
    for _ in range(2):
        assert await curl(box, "a.site.test", origin.port) != 0
    assert resolver.asked == ["a.site.test"] * 2
    assert origin.visits == 0


async def test_the_resolver_is_asked_only_for_connections_to_allowed_names(lab, origin):
    resolver = FakeResolver(["10.0.0.1"])
    box = await lab(ALL, resolver=resolver)
    for name in ("a.site.test", "b.site.test", "site.test", "a.other.test"):
        await box.inside.run("busybox", "nslookup", "-type=a", name, "8.8.8.8")
    assert resolver.asked == []
    await curl(box, "b.site.test", origin.port)
    assert resolver.asked == ["b.site.test"]


async def test_one_good_address_among_bad_ones_is_taken(lab, origin):
    # The static name makes loopback good for this one name; nothing else on this machine is public.
    resolver = FakeResolver(["10.0.0.1", "169.254.169.254"])
    box = await lab(ALL, resolver=resolver, names={"a.site.test": "127.0.0.1"})
    assert await curl(box, "a.site.test", origin.port) == 0
    assert resolver.asked == []
    assert await curl(box, "b.site.test", origin.port) != 0


async def test_a_static_name_must_be_allowed_all_the_same(lab, origin):
    box = await lab(ALL)
    assert await curl(box, "allowed.test", origin.port) != 0
    assert origin.visits == 0


async def test_a_resolver_that_does_not_answer_is_given_up(lab):
    gone = asyncio.Event()

    async def resolver(name: str) -> list[str]:
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        return []

    box = await lab(ALL, resolver=resolver, connect_timeout=0.3)
    assert await curl(box, "a.site.test", 80) != 0
    record = await box.recorded(lambda record: record.protocol == "tcp")
    assert record.allowed
    assert "no connection within 0.3 s" in record.reason
    assert gone.is_set()


async def test_a_resolver_that_fails_is_logged(lab):
    async def resolver(name: str) -> list[str]:
        raise OSError("no such name")

    box = await lab(ALL, resolver=resolver)
    assert await curl(box, "a.site.test", 80) != 0
    assert "not reached: no such name" in (await box.recorded(lambda record: record.protocol == "tcp")).reason


async def test_a_name_that_is_not_asked_for_has_no_address(lab):
    box = await lab(NetworkPolicy(mode="public"))
    code, _ = await box.inside.run("curl", "-sS", "-m", "9", "http://198.18.77.77/")
    assert code != 0
    assert "stands for no name" in (await box.recorded(lambda record: record.port == 80)).reason


async def test_public_answers_every_name_and_reaches_no_private_one(lab, origin):
    resolver = FakeResolver(["192.168.7.7"])
    box = await lab(NetworkPolicy(mode="public"), resolver=resolver)
    assert await curl(box, "router.anything.test", origin.port) != 0
    assert "private" in (await box.recorded(lambda record: record.protocol == "tcp")).reason
    assert await curl(box, "allowed.test", origin.port) == 0
