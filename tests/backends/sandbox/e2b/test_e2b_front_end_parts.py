"""Parts of the front end alone: what requests ask for, and output that waits for its client."""

import pytest

from tumbler.contracts.sandbox import NetworkPolicy
from tumbler.contracts.sandbox_control import ManagedBackend
from tumbler_backends.sandbox.service.e2b.faults import RefusedError
from tumbler_backends.sandbox.service.e2b.gate import BackendGate, Gate
from tumbler_backends.sandbox.service.e2b.specs import WORKDIR_LABEL, E2bOptions, policy_of, spec_of
from tumbler_backends.sandbox.service.e2b.spool import Spool

ALL = "0.0.0.0/0"


def spec(body, options=None, key=None):
    return spec_of(body, options or E2bOptions(), snapshots=frozenset({"snap"}), idempotency_key=key)


def test_a_request_becomes_a_spec():
    made = spec({"templateID": "base", "timeout": 60, "metadata": {"a": "b"}, "envVars": {"X": "1"}}, key="k")
    assert (made.image, made.template, made.workdir, made.ttl) == (None, None, "/home/user", 60.0)
    assert (made.env["X"], made.env["HOME"]) == ("1", "/home/user")
    assert made.labels == {"a": "b", "tumbler.template": "base"}
    assert made.idempotency_key != "k"
    assert made.idempotency_key == spec({}, key="k").idempotency_key


def test_templates_are_names_of_images_or_snapshots():
    options = E2bOptions(templates={"base": None, "python": "python:3.12"})
    assert spec({"templateID": "python"}, options).image == "python:3.12"
    assert spec({"templateID": "snap"}, options).template == "snap"
    with pytest.raises(RefusedError, match="base, python") as refused:
        spec({"templateID": "pyton"}, options)
    assert refused.value.status == 404


def test_a_client_of_tumblers_may_name_its_folder():
    made = spec({"metadata": {WORKDIR_LABEL: "/data"}})
    assert (made.workdir, dict(made.env)) == ("/data", {})
    assert spec({"metadata": {WORKDIR_LABEL: "relative"}}).workdir == "/home/user"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, NetworkPolicy()),
        ({"allow_internet_access": True}, NetworkPolicy(mode="public")),
        ({"allow_internet_access": False}, NetworkPolicy()),
        ({"network": {"denyOut": [ALL]}}, NetworkPolicy()),
        (
            {"network": {"allowOut": ["pypi.org", "1.1.1.1", "10.0.0.0/8", "2001:db8::1"], "denyOut": [ALL]}},
            NetworkPolicy(
                mode="allowlist", hosts=("pypi.org",), cidrs=("1.1.1.1/32", "10.0.0.0/8", "2001:db8::1/128")
            ),
        ),
        (
            {"allow_internet_access": False, "network": {"allowOut": ["a.b"]}},
            NetworkPolicy(mode="allowlist", hosts=("a.b",)),
        ),
        ({"network": {"allowOut": ["a.b"]}}, NetworkPolicy(mode="public")),
        ({"network": {"allowOut": [ALL], "denyOut": [ALL]}}, NetworkPolicy(mode="public")),
    ],
)  # fmt: skip
def test_network_rules_become_a_policy(body, expected):
    assert spec(body).network == expected


def test_who_says_nothing_about_the_network_gets_the_default():
    assert policy_of({}, {}, E2bOptions(default_network="public")).mode == "public"
    assert policy_of({"allow_internet_access": False}, {}, E2bOptions(default_network="public")).mode == "none"


@pytest.mark.parametrize(
    "body",
    [
        {"network": {"denyOut": ["10.0.0.0/8"]}},
        {"network": {"rules": {"a": []}}},
        {"network": {"egressProxy": {"address": "x:1"}}},
        {"autoPause": True},
        {"volumeMounts": [{"name": "a", "path": "/a"}]},
        {"iam": {"tokens": {}}},
        {"timeout": -1},
        {"timeout": 90_000},
    ],
)
def test_what_cannot_be_had_is_refused(body):
    with pytest.raises(RefusedError) as refused:
        spec(body)
    assert refused.value.status == 400


async def test_output_waits_in_a_file_in_its_order():
    spool = Spool()
    pieces = [("stdout" if number % 3 else "stderr", bytes([number % 256]) * 100_000) for number in range(50)]
    for name, piece in pieces[:30]:
        spool.put(name, piece)
    got = [await spool.get() for _ in range(25)]
    for name, piece in pieces[30:]:
        spool.put(name, piece)
    got += [await spool.get() for _ in range(25)]
    assert got == pieces
    assert spool.size == 0
    spool.end()
    assert await spool.get() is None
    spool.close()


async def test_a_gate_knows_its_keys_and_keeps_its_tenants_apart():
    gate = BackendGate(NoBackend(), {"one": "first", "two": "second"}, secret=b"s")
    assert isinstance(gate, Gate)
    assert [await gate.authenticate(key) for key in ("one", "two", "three", "")] == ["first", "second", None, None]
    assert gate.secret == b"s"


class NoBackend(ManagedBackend):
    """A backend that nobody asks for anything."""
