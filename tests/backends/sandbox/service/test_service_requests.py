"""Errors, back-pressure, repeated requests, limits of bodies, and the end of the service."""

import asyncio
import json

import pytest

from tumbler.errors import (
    CapabilityError,
    PolicyDenied,
    SandboxDied,
    SandboxError,
    SandboxStartFailed,
    SandboxUnavailable,
    SessionEnded,
)


async def box_of(client) -> str:
    answer = await client.post("/v1/sandboxes", json={})
    assert answer.status_code == 201
    return f"/v1/sandboxes/{answer.json()['id']}"


@pytest.mark.parametrize(
    ("error", "status", "problem"),
    [
        (CapabilityError("no"), 422, {"error": "CapabilityError", "infra": False}),
        (PolicyDenied("no"), 403, {"error": "PolicyDenied"}),
        (SandboxDied("gone", "ttl"), 410, {"error": "SandboxDied", "infra": True, "details": {"cause": "ttl"}}),
        (SessionEnded("over", 0), 410, {"error": "SessionEnded", "details": {"exit_status": 0}}),
        (SandboxUnavailable("later"), 503, {"error": "SandboxUnavailable", "retryable": True}),
        (SandboxStartFailed("x", "image"), 422, {"error": "SandboxStartFailed", "details": {"phase": "image"}}),
        (SandboxStartFailed("x", "create"), 502, {"error": "SandboxStartFailed"}),
        (SandboxError("x"), 502, {"error": "SandboxError"}),
        (
            FileNotFoundError(2, "No such file", "a"),
            404,
            {"error": "FileNotFoundError", "details": {"errno": 2, "reason": "No such file", "paths": ["a"]}},
        ),
        (OSError(28, "full", "a"), 413, {"error": "OSError"}),
        (IsADirectoryError(21, "is", b"\xff"), 409, {"error": "IsADirectoryError"}),
        (ValueError("odd"), 422, {"error": "ValueError", "message": "odd"}),
        (TimeoutError("late"), 408, {"error": "TimeoutError"}),
    ],
)
async def test_each_error_is_a_problem_with_its_class_and_fields(serve, pretended, error, status, problem):
    client = (await serve())()
    box = await box_of(client)
    pretended.failures["fail"] = error
    answer = await client.post(f"{box}/exec", json={"command": "fail"})
    assert answer.status_code == status
    assert answer.json().items() >= problem.items()
    assert answer.headers["content-type"] == "application/json"


async def test_a_defect_is_told_without_its_inside(serve, pretended, caplog):
    client = (await serve())()
    box = await box_of(client)
    pretended.failures["fail"] = ZeroDivisionError("a secret")
    answer = await client.post(f"{box}/exec", json={"command": "fail"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "a secret" in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"unknown": 1}',
        b'{"ttl": -1}',
        b'{"ttl": Infinity}',
        b'{"labels": {"a": "\\ud800"}}',
        b'{"files": {"a": "no base64!"}}',
        b'{"network": {"mode": "some"}}',
        b"[" * 100_000,
    ],
)
async def test_malformed_bodies_are_the_callers_fault(serve, body):
    client = (await serve())()
    answer = await client.post("/v1/sandboxes", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"] == "ValueError"


async def test_a_body_beyond_the_limit_is_refused_and_the_rest_goes_on(serve):
    client = (await serve(body_bytes=2000, upload_bytes=4000))()
    box = await box_of(client)
    answer = await client.post(f"{box}/exec", json={"command": "x" * 3000})
    assert answer.status_code == 413
    assert (await client.post(f"{box}/exec", json={"command": "x"})).status_code == 200


async def test_words_that_are_not_utf8_arrive_as_they_are(serve, pretended):
    client = (await serve())()
    box = await box_of(client)
    command = ["echo", {"base64": "//4="}]
    assert (await client.post(f"{box}/exec", json={"command": command})).status_code == 200
    assert pretended.commands[-1][0] == ("echo", "\udcff\udcfe")


async def test_a_full_queue_sends_away_with_spread_hints(serve, pretended):
    client = (await serve(concurrent_creates=1, queue=1))()
    pretended.gate.clear()
    waiting = [asyncio.ensure_future(client.post("/v1/sandboxes", json={})) for _ in range(8)]
    done, held = await asyncio.wait(waiting, timeout=5)
    assert (len(done), len(held)) == (6, 2)
    refused = [task.result() for task in done]
    assert {answer.status_code for answer in refused} == {503}
    assert {answer.json()["error"] for answer in refused} == {"SandboxUnavailable"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert len({answer.json()["details"]["retry_after"] for answer in refused}) > 1
    assert "tumbler_creation_queue 1.0" in (await client.get("/metrics")).text
    pretended.gate.set()
    assert {(await task).status_code for task in held} == {201}


async def test_nobody_waits_for_ever(serve, pretended):
    client = (await serve(concurrent_creates=1, queue_seconds=0.1))()
    pretended.gate.clear()
    first = asyncio.ensure_future(client.post("/v1/sandboxes", json={}))
    await asyncio.sleep(0.1)
    assert (await client.post("/v1/sandboxes", json={})).status_code == 503
    pretended.gate.set()
    assert (await first).status_code == 201


async def test_the_same_run_asked_for_twice_is_one_run(serve, pretended):
    client = (await serve())()
    box = await box_of(client)
    body = {"command": "echo", "exec_id": "one"}
    answers = await asyncio.gather(*(client.post(f"{box}/exec", json=body) for _ in range(5)))
    later = await client.post(f"{box}/exec", json=body)
    assert {answer.text for answer in [*answers, later]} == {later.text}
    assert len(pretended.commands) == 1


async def test_a_run_survives_its_client_and_can_be_cancelled(serve, pretended):
    client = (await serve())()
    box = await box_of(client)
    gone = asyncio.ensure_future(client.post(f"{box}/exec", json={"command": "slow", "exec_id": "r"}))
    await _until(lambda: len(pretended.commands) == 1)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    again = asyncio.ensure_future(client.post(f"{box}/exec", json={"command": "slow", "exec_id": "r"}))
    await asyncio.sleep(0.2)
    assert len(pretended.commands) == 1
    assert (await client.delete(f"{box}/exec/r")).status_code == 204
    assert (await again).status_code == 502
    assert [command for command, _ in pretended.commands] == ["slow", "cancelled"]
    assert (await client.post(f"{box}/exec", json={"command": "slow", "exec_id": "r"})).status_code == 502


async def test_a_run_that_is_cancelled_before_it_comes_never_starts(serve, pretended):
    client = (await serve())()
    box = await box_of(client)
    await client.delete(f"{box}/exec/early")
    assert (await client.post(f"{box}/exec", json={"command": "x", "exec_id": "early"})).status_code == 502
    assert pretended.commands == []


async def test_a_repeated_request_is_refused_by_another_instance(serve):
    client = (await serve())()
    box = await box_of(client)
    instance = (await client.get("/v1/server")).headers["tumbler-instance"]
    for known, status in ((instance, 200), ("another", 412)):
        answer = await client.post(f"{box}/exec", json={"command": "x"}, headers={"Tumbler-Instance": known})
        assert answer.status_code == status
    assert answer.json()["error"] == "SandboxUnavailable"


async def test_a_client_cannot_have_more_output_than_the_operator_allows(serve, pretended):
    client = (await serve(output_bytes=5000))()
    box = await box_of(client)
    await client.post(f"{box}/exec", json={"command": "x", "max_output": 1 << 30})
    assert pretended.commands[-1][1]["max_output"] == 5000


async def test_what_happens_is_counted(serve, pretended):
    client = (await serve())()
    box = await box_of(client)
    await client.post(f"{box}/exec", json={"command": "x"})
    pretended.failures["fail"] = SandboxUnavailable("x")
    await client.post(f"{box}/exec", json={"command": "fail"})
    lines = (await client.get("/metrics")).text.splitlines()
    assert {
        "tumbler_sandboxes 1.0",
        "tumbler_sandbox_start_seconds_count 1.0",
        'tumbler_commands_total{kind="exec"} 2.0',
        'tumbler_failures_total{error="SandboxUnavailable"} 1.0',
        "tumbler_infra_failures_total 1.0",
    } <= set(lines)


async def test_whoever_waits_is_told_when_the_sandbox_goes(serve):
    client = (await serve())()
    box = await box_of(client)
    waiting = asyncio.ensure_future(client.post(f"{box}/exec", json={"command": "slow"}))
    await asyncio.sleep(0.2)
    assert (await client.delete(box)).status_code == 204
    assert (await waiting).json()["error"] == "SandboxDied"
    assert (await client.get(box)).status_code == 410


async def test_paths_that_are_nobodys_are_problems_too(serve):
    client = (await serve())()
    answer = await client.get("/v1/no-such-path")
    assert (answer.status_code, answer.json()["error"]) == (404, "ValueError")
    assert (await client.put("/v1/sandboxes")).status_code == 405


async def test_the_schema_describes_every_failure(serve):
    client = (await serve())()
    schema = (await client.get("/openapi.json")).json()
    operations = [(path, verb, each) for path, item in schema["paths"].items() for verb, each in item.items()]
    assert len(operations) > 40
    for path, verb, operation in operations:
        assert operation.get("summary"), (path, verb)
        if path.startswith("/v1"):
            reference = operation["responses"]["410"]["content"]["application/json"]["schema"]["$ref"]
            assert reference.endswith("/Problem")
    for name, model in schema["components"]["schemas"].items():
        assert model.get("description") or name == "JsonValue", name
    assert "HTTPValidationError" not in json.dumps(schema)


async def _until(holds) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)
