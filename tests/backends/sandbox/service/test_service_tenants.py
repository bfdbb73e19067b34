"""Tokens, quotas and what tenants see of each other."""

import asyncio

import pytest
from pydantic import ValidationError

from tumbler_backends.sandbox.service.settings import ServiceSettings

ALICE, BOB = "token-of-alice-0001", "token-of-bob-000002"


def tenants(**quota):
    return [{"name": "alice", "token": ALICE, **quota}, {"name": "bob", "token": BOB}]


async def create(client, **spec):
    return await client.post("/v1/sandboxes", json=spec)


async def test_a_wrong_token_is_refused_and_names_no_tenant(serve):
    client = await serve(tenants=tenants())
    for token in (None, "wrong", ALICE[:-1], ALICE + "x"):
        for path in ("/v1/sandboxes", "/v1/server", "/metrics", "/v1/environments"):
            answer = await client(token).get(path)
            assert (answer.status_code, answer.json()["error"]) == (401, "PolicyDenied")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "alice" not in answer.text
    assert (await client(ALICE).get("/v1/server")).status_code == 200


async def test_health_needs_no_token(serve):
    client = await serve(tenants=tenants())
    assert (await client().get("/healthz")).text == "ok\n"
    assert (await client().get("/readyz")).text == "ok\n"
    assert (await client().get("/openapi.json")).status_code == 200


async def test_without_tokens_the_service_listens_to_this_machine_only():
    for host in ("0.0.0.0", "::", "192.0.2.7", "example.org"):
        with pytest.raises(ValidationError, match=r"tenants.*TUMBLER_SANDBOX_TOKEN"):
            ServiceSettings(host=host)
        assert ServiceSettings(host=host, tenants=tenants()).host == host
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        assert ServiceSettings(host=host).host == host


async def test_without_tokens_other_names_for_this_machine_are_refused(serve):
    client = await serve()
    refused = await client().get("/v1/sandboxes", headers={"Host": "rebound.example:80"})
    assert (refused.status_code, refused.json()["error"]) == (403, "PolicyDenied")
    assert (await client().get("/v1/sandboxes", headers={"Host": "localhost:1"})).status_code == 200


def test_short_and_shared_tokens_are_refused():
    with pytest.raises(ValidationError, match="16 characters"):
        ServiceSettings(tenants=[{"name": "a", "token": "short"}])
    with pytest.raises(ValidationError, match="same token"):
        ServiceSettings(tenants=[{"name": "a", "token": ALICE}, {"name": "b", "token": ALICE}])
    with pytest.raises(ValidationError, match="same name"):
        ServiceSettings(tenants=[{"name": "a", "token": ALICE}, {"name": "a", "token": BOB}])


async def test_tenants_do_not_see_each_others_sandboxes(serve, pretended):
    client = await serve(tenants=tenants())
    alice, bob = client(ALICE), client(BOB)
    mine = (await create(alice, name="box", labels={"a": "1", "tumbler.tenant": "bob"})).json()
    theirs = (await create(bob, name="box")).json()
    assert (mine["name"], mine["labels"], theirs["name"]) == ("box", {"a": "1"}, "box")
    for identity in (mine["id"], "alice.box", "no-such"):
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/spec"), ("POST", "/heartbeat")):
            refused = await bob.request(method, f"/v1/sandboxes/{identity}{path}")
            assert (refused.status_code, refused.json()["error"]) == (404, "SandboxNotFound")
        answer = await bob.post(f"/v1/sandboxes/{identity}/exec", json={"command": "true"})
        assert answer.status_code == 404
    assert [each["id"] for each in (await alice.get("/v1/sandboxes")).json()] == [mine["id"]]
    assert [each["id"] for each in (await bob.get("/v1/sandboxes")).json()] == [theirs["id"]]
    assert (await alice.get("/v1/sandboxes/box")).json()["id"] == mine["id"]
    assert (await alice.get("/v1/sandboxes/box/spec")).json()["labels"] == {"a": "1"}
    assert pretended.sandboxes[mine["id"]].spec.labels["tumbler.tenant"] == "alice"


async def test_tenants_do_not_see_each_others_templates(serve):
    client = await serve(tenants=tenants())
    alice, bob = client(ALICE), client(BOB)
    box = (await create(alice)).json()["id"]
    template = (await alice.post(f"/v1/sandboxes/{box}/snapshot")).json()["id"]
    assert (await bob.get("/v1/templates")).json() == []
    assert (await create(bob, template=template)).json()["error"] == "SandboxNotFound"
    assert (await bob.delete(f"/v1/templates/{template}")).status_code == 404
    assert (await create(alice, template=template)).status_code == 201
    assert (await alice.delete(f"/v1/templates/{template}")).status_code == 204


async def test_the_quota_of_living_sandboxes_holds_also_in_a_burst(serve):
    client = await serve(tenants=tenants(max_sandboxes=3))
    alice = client(ALICE)
    answers = await asyncio.gather(*(create(alice) for _ in range(10)))
    made = [answer for answer in answers if answer.status_code == 201]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert (len(made), len(refused)) == (3, 7)
    assert {answer.json()["error"] for answer in refused} == {"QuotaExceeded"}
    assert all("retry-after" not in answer.headers for answer in refused)
    box = made[0].json()["id"]
    assert (await alice.post(f"/v1/sandboxes/{box}/fork", json={"count": 1})).status_code == 429
    assert (await create(client(BOB))).status_code == 201
    assert (await alice.delete(f"/v1/sandboxes/{box}")).status_code == 204
    assert (await create(alice)).status_code == 201


async def test_a_sandbox_that_died_by_itself_frees_its_place(serve, pretended):
    client = await serve(tenants=tenants(max_sandboxes=1))
    alice = client(ALICE)
    box = (await create(alice)).json()["id"]
    pretended.sandboxes[box].cause = "oom"
    pretended.sandboxes[box].gone.set()
    assert (await create(alice)).status_code == 201
    told = (await alice.get(f"/v1/sandboxes/{box}")).json()
    assert (told["error"], told["details"]["cause"]) == ("SandboxDied", "oom")


async def test_creations_per_second_are_bounded_with_a_hint(serve):
    client = await serve(tenants=tenants(creates_per_second=0.1))
    alice = client(ALICE)
    assert (await create(alice)).status_code == 201
    refused = await create(alice)
    assert refused.status_code == 429
    assert 0 < refused.json()["details"]["retry_after"] <= 10
    assert int(refused.headers["retry-after"]) >= 1
    assert (await create(client(BOB))).status_code == 201


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"resources": {"cpus": 3}}, "QuotaExceeded"),
        ({"resources": {"memory_bytes": 2 << 30}}, "QuotaExceeded"),
        ({"ttl": 101}, "QuotaExceeded"),
        ({"image": "/etc"}, "PolicyDenied"),
        ({"image": "./x.tar"}, "PolicyDenied"),
        ({"image": "../x"}, "PolicyDenied"),
        ({"mounts": [{"source": "/etc", "target": "/x"}]}, "PolicyDenied"),
    ],
)
async def test_what_is_beyond_the_ceilings_is_refused_before_anything_starts(serve, pretended, spec, error):
    client = await serve(tenants=tenants(cpus=2, memory_bytes=1 << 30, ttl=100))
    answer = await create(client(ALICE), **{"ttl": 100, **spec})
    assert answer.json()["error"] == error
    assert answer.status_code in (403, 429)
    assert pretended.sandboxes == {}


async def test_a_ceiling_is_what_a_sandbox_gets_that_asks_for_nothing(serve, pretended):
    client = await serve(tenants=tenants(cpus=2, ttl=100))
    box = (await create(client(ALICE), ttl=50, resources={"memory_bytes": 7})).json()["id"]
    resources = pretended.sandboxes[box].spec.resources
    assert (resources.cpus, resources.memory_bytes) == (2, 7)
    extended = await client(ALICE).post(f"/v1/sandboxes/{box}/extend", json={"ttl": 101})
    assert extended.json()["error"] == "QuotaExceeded"


async def test_paths_below_an_allowed_folder_may_be_named(serve, tmp_path):
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "out").symlink_to(tmp_path)
    client = await serve(host_paths=[tmp_path / "allowed"])
    for path, status in (("allowed/image", 201), ("allowed/../image", 403), ("allowed/out/x", 403), ("image", 403)):
        answer = await create(client(), image=f"{tmp_path}/{path}")
        assert answer.status_code == status, path
