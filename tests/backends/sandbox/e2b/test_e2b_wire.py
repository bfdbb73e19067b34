"""The front end's wire, where the SDK would hide it: frames, tokens, routes, limits."""

import asyncio
import base64
import gzip
import json
import struct

import httpx
import pytest
from e2b.sandbox.signature import get_signature

from tumbler_backends.sandbox.service.e2b.tokens import signature_fits

HEADER = struct.Struct(">BI")


@pytest.fixture
async def http(front_end):
    async with httpx.AsyncClient(base_url=front_end.url, timeout=30) as client:
        yield client


@pytest.fixture
async def box(http, front_end):
    key = {"X-API-KEY": front_end.key}
    made = (await http.post("/sandboxes", json={"templateID": "base"}, headers=key)).json()
    headers = {"E2b-Sandbox-Id": made["sandboxID"], "X-Access-Token": made["envdAccessToken"]}
    headers["E2b-Traffic-Access-Token"] = made["trafficAccessToken"]
    yield headers
    assert (await http.delete(f"/sandboxes/{made['sandboxID']}", headers=key)).status_code == 204
    assert (await http.delete(f"/sandboxes/{made['sandboxID']}", headers=key)).status_code == 404


def framed(message: dict) -> bytes:
    body = json.dumps(message).encode()
    return HEADER.pack(0, len(body)) + body


def unframed(data: bytes) -> list[tuple[int, dict]]:
    messages = []
    while data:
        flags, size = HEADER.unpack_from(data)
        messages.append((flags, json.loads(data[HEADER.size : HEADER.size + size])))
        data = data[HEADER.size + size :]
    return messages


async def start(http, box, command, **more):
    process = {"process": {"cmd": "/bin/sh", "args": ["-c", command]}, "stdin": False}
    headers = {**box, "Content-Type": "application/connect+json", **more}
    answer = await http.post("/process.Process/Start", content=framed(process), headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/connect+json")
    return unframed(answer.content)


async def test_a_process_is_a_stream_of_frames_with_any_bytes(http, box):
    messages = await start(http, box, r"printf '\000\377'; exit 3")
    events = [message["event"] for _, message in messages[:-1]]
    assert list(events[0]) == ["start"]
    assert base64.b64decode(events[1]["data"]["stdout"]) == b"\0\xff"
    assert events[-1]["end"] == {"exitCode": 3, "exited": True, "status": "exit status 3"}
    assert messages[-1] == (2, {})


async def test_a_death_by_signal_is_told_as_envd_does(http, box):
    messages = await start(http, box, "kill -9 $$")
    end = messages[-2][1]["event"]["end"]
    assert (end["exitCode"], end["exited"], end["status"]) == (-1, False, "signal: killed")


async def test_silence_is_broken_by_keepalives(http, box):
    messages = await start(http, box, "sleep 1.5", **{"Keepalive-Ping-Interval": "1"})
    assert {"event": {"keepalive": {}}} in [message for _, message in messages]


async def test_a_deadline_ends_the_stream_with_its_code(http, box):
    messages = await start(http, box, "sleep 300", **{"Connect-Timeout-Ms": "300"})
    assert messages[-1][1]["error"]["code"] == "deadline_exceeded"


async def test_more_output_than_the_client_takes_at_once_is_not_lost(http, box):
    size = 100 << 20
    process = {"process": {"cmd": "/bin/sh", "args": ["-c", f"head -c {size} /dev/zero; echo end"]}, "stdin": False}
    headers = {**box, "Content-Type": "application/connect+json"}
    counted, rest, ended = 0, b"", {}
    async with http.stream("POST", "/process.Process/Start", content=framed(process), headers=headers) as answer:
        await asyncio.sleep(1)  # the process is ahead of us
        async for piece in answer.aiter_bytes():
            rest += piece
            while len(rest) >= HEADER.size and len(rest) >= HEADER.size + (length := HEADER.unpack_from(rest)[1]):
                message = json.loads(rest[HEADER.size : HEADER.size + length])
                rest = rest[HEADER.size + length :]
                counted += len(base64.b64decode(message.get("event", {}).get("data", {}).get("stdout", "")))
                ended = message.get("event", {}).get("end", ended)
    assert (counted, ended["exitCode"]) == (size + 4, 0)


async def test_a_client_that_goes_away_leaves_the_process_running(http, box):
    process = {"process": {"cmd": "/bin/sh", "args": ["-c", "echo on; sleep 300"]}, "tag": "mine"}
    headers = {**box, "Content-Type": "application/connect+json"}
    async with http.stream("POST", "/process.Process/Start", content=framed(process), headers=headers) as answer:
        async for _ in answer.aiter_bytes():
            break
    listed = (await http.post("/process.Process/List", json={}, headers=box)).json()["processes"]
    assert [each["tag"] for each in listed] == ["mine"]
    signal = {"process": {"tag": "mine"}, "signal": "SIGNAL_SIGKILL"}
    assert (await http.post("/process.Process/SendSignal", json=signal, headers=box)).status_code == 200


async def test_unary_errors_have_code_and_status(http, box):
    answer = await http.post("/filesystem.Filesystem/Stat", json={"path": "nowhere"}, headers=box)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    answer = await http.post("/filesystem.Filesystem/Stat", json={"path": 3}, headers=box)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_argument")
    answer = await http.post(
        "/filesystem.Filesystem/Stat", content=b"[", headers={**box, "Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_argument")
    answer = await http.post("/process.Process/SendSignal", json={"process": {"pid": 1}, "signal": 9}, headers=box)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    answer = await http.post(
        "/filesystem.Filesystem/Stat", content=b"", headers={**box, "Content-Type": "application/proto"}
    )
    assert answer.status_code == 415


async def test_without_its_token_a_sandbox_answers_nobody(http, box):
    for headers in ({**box, "X-Access-Token": "wrong"}, {"E2b-Sandbox-Id": box["E2b-Sandbox-Id"]}):
        answer = await http.post("/filesystem.Filesystem/Stat", json={"path": "."}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert (await http.get("/files", params={"path": "x"}, headers=headers)).status_code == 401
        assert (await http.get("/health", headers=headers)).status_code == 401
    assert (await http.get("/health", headers=box)).status_code == 204


async def test_a_sandbox_that_is_not_there_is_a_bad_gateway(http, box, front_end):
    key = {"X-API-KEY": front_end.key}
    made = (await http.post("/v2/sandboxes", json={}, headers=key)).json()
    await http.delete(f"/sandboxes/{made['sandboxID']}", headers=key)
    headers = {"E2b-Sandbox-Id": made["sandboxID"], "X-Access-Token": made["envdAccessToken"]}
    answer = await http.get("/health", headers=headers)
    assert (answer.status_code, answer.json()["message"]) == (502, "The sandbox was not found")


async def test_a_sandbox_is_also_named_by_the_host(http, box):
    host = f"49983-{box['E2b-Sandbox-Id']}.example.org"
    headers = {"Host": host, "X-Access-Token": box["X-Access-Token"]}
    assert (await http.get("/health", headers=headers)).status_code == 204


async def test_uploads_are_unpacked_and_damaged_ones_are_refused(http, box):
    content = bytes(5_000_000)
    headers = {**box, "Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}
    packed = gzip.compress(content)
    answer = await http.post("/files", params={"path": "zeros"}, content=packed, headers=headers)
    assert answer.json() == [{"name": "zeros", "type": "file", "path": "/home/user/zeros"}]
    got = await http.get("/files", params={"path": "zeros"}, headers={**box, "Accept-Encoding": "gzip"})
    assert (got.headers["content-encoding"], got.content) == ("gzip", content)
    for damaged in (packed[:-20], b"no gzip"):
        answer = await http.post("/files", params={"path": "zeros"}, content=damaged, headers=headers)
        assert answer.status_code == 400
    assert (await http.get("/files", params={"path": "zeros"}, headers=box)).content == content


async def test_the_control_plane_wants_a_known_key_and_objects(http, front_end):
    assert (await http.get("/v2/sandboxes")).status_code == 401
    key = {"X-API-KEY": front_end.key}
    for body in (b"[]", b"{", b'{"metadata": 3}', b'{"metadata": {"a": 1}}', b'{"metadata": {"tumbler.tenant": "x"}}'):
        answer = await http.post("/v2/sandboxes", content=body, headers=key)
        assert answer.status_code == 400, body
        assert answer.json()["code"] == 400
    assert (await http.get("/v2/sandboxes", params={"limit": "x"}, headers=key)).status_code == 400
    assert (await http.post("/sandboxes/never/timeout", json={"timeout": 1}, headers=key)).status_code == 404


# the code-interpreter add-on


async def execute(http, box, code, **more):
    headers = {**box, "E2b-Sandbox-Port": "49999"}
    answer = await http.post("/execute", json={"code": code, **more}, headers=headers)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_cells_keep_their_names_and_tell_values_output_and_errors(http, box):
    assert [event["type"] for event in await execute(http, box, "x = 20")][-1] == "end_of_execution"
    events = await execute(http, box, "import os, sys\nprint('out')\nos.system('echo child >&2')\nx + 1")
    told = {event["type"]: event for event in events}
    assert (told["result"]["text"], told["number_of_executions"]["execution_count"]) == ("21", 2)
    assert "".join(event["text"] for event in events if event["type"] == "stdout") == "out\n"
    assert "".join(event["text"] for event in events if event["type"] == "stderr") == "child\n"
    (error,) = [event for event in await execute(http, box, "1 / 0") if event["type"] == "error"]
    assert (error["name"], error["value"]) == ("ZeroDivisionError", "division by zero")
    assert "<cell 3>" in error["traceback"]


async def test_contexts_are_apart_and_can_be_begun_anew(http, box):
    headers = {**box, "E2b-Sandbox-Port": "49999"}
    del headers["X-Access-Token"]  # what listens inside has a token of its own
    made = (await http.post("/contexts", json={"cwd": "/tmp"}, headers=headers)).json()
    assert (made["cwd"], made["language"]) == ("/tmp", "python")
    await execute(http, box, "x = 1", context_id=made["id"])
    events = await execute(http, box, "'x' in globals()")
    assert [event["text"] for event in events if event["type"] == "result"] == ["False"]
    assert (await http.post(f"/contexts/{made['id']}/restart", headers=headers)).status_code == 200
    events = await execute(http, box, "import os; ('x' in globals(), os.getcwd())", context_id=made["id"])
    assert [event["text"] for event in events if event["type"] == "result"] == ["(False, '/tmp')"]
    assert (await http.delete(f"/contexts/{made['id']}", headers=headers)).status_code == 204
    assert (await http.delete(f"/contexts/{made['id']}", headers=headers)).status_code == 404
    assert (await http.post("/contexts", json={"language": "r"}, headers=headers)).status_code == 400
    assert (await http.post("/execute", json={"code": "1"}, headers=box)).status_code == 404


async def test_a_cell_whose_caller_went_away_is_interrupted_and_told_to_nobody(http, box):
    headers = {**box, "E2b-Sandbox-Port": "49999"}
    with pytest.raises(httpx.ReadTimeout):
        await http.post("/execute", json={"code": "import time\ntime.sleep(300)"}, headers=headers, timeout=0.5)
    events = await execute(http, box, "'after'")
    assert [event["text"] for event in events if event["type"] == "result"] == ["'after'"]
    assert not [event for event in events if event["type"] == "error"]


def test_a_signature_is_for_one_path_one_way_one_user_and_a_time():
    shown = get_signature("/a", "read", None, "token")["signature"]
    right = {"path": "/a", "operation": "read", "user": "", "shown": shown, "expiration": None}
    assert signature_fits("token", **right)
    for wrong in (
        {"path": "/b"},
        {"operation": "write"},
        {"user": "root"},
        {"expiration": "9999999999"},
        {"shown": ""},
    ):
        assert not signature_fits("token", **{**right, **wrong})
    assert not signature_fits("other", **right)
    late = get_signature("/a", "read", None, "token", -5)
    old = {**right, "shown": late["signature"], "expiration": str(late["expiration"])}
    assert not signature_fits("token", **old)
