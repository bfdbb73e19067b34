"""The gateway as a server of its own: sessions by request, and what is kept of them."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from pydantic import SecretStr
from tests.backends.gateway.conftest import chat_body

from tumbler.contracts.chat import ChatCall, ChatMessage, ChatReply
from tumbler.contracts.inference import Sampling
from tumbler.dialects import dialect
from tumbler.errors import InferenceError, RunFolderError
from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference
from tumbler.trajectory import trajectory_from_json, verify_trajectory
from tumbler_backends.gateway.gateway import HttpGateway
from tumbler_backends.gateway.settings import GatewaySettings
from tumbler_backends.gateway.standalone.service import SessionRequest, StandaloneGateway
from tumbler_backends.gateway.standalone.sources import PolicySessions, ServedSessions

ADMIN = "the gateway's own"


class Served:
    """A `ChatModel` that says what it is told, with the same call each time."""

    context_length = 100

    def __init__(self) -> None:
        self.asked: list[dict] = []

    async def chat(self, messages, tools=(), **options) -> ChatReply:
        self.asked.append({**options, "tools": tools})
        call = ChatCall(id="call_0", name="look", arguments={})
        return ChatReply(message=ChatMessage(role="assistant", content="served", calls=(call,)), stop="calls")

    def count(self, messages, tools=()) -> int:
        return 42


@asynccontextmanager
async def serving(source, folder, *sessions, admin=ADMIN) -> AsyncIterator[tuple[dict, asyncio.Future]]:
    """Serve until the block ends; yield the endpoints of the sessions, and the service's task."""
    ready: asyncio.Future[dict] = asyncio.get_running_loop().create_future()
    service = StandaloneGateway(HttpGateway(GatewaySettings(unix_socket=False)), source, folder, admin=admin)
    task = asyncio.ensure_future(service.serve(sessions, on_ready=lambda found: ready.set_result(dict(found))))
    await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield ready.result(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def policy_sessions(inference=None) -> PolicySessions:
    scripted = inference or ScriptedInference(lambda prompt: f"reply {prompt.count('user')}")
    return PolicySessions(scripted, dialect("hermes"), Sampling(max_tokens=32))


def client(url: str, secret: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {secret}"}, trust_env=False, timeout=30)


async def converse(endpoint_url: str, secret: str, turns: int) -> None:
    async with client(endpoint_url, secret) as http:
        said: list = ["Go."]
        for _ in range(turns):
            answer = (await http.post("/v1/chat/completions", json=chat_body(*said))).json()
            said += [answer["choices"][0]["message"], "On."]


async def test_a_policys_sessions_are_kept_as_trajectories(tmp_path):
    inference = ScriptedInference(lambda prompt: f"reply {prompt.count('user')}")
    asked = SessionRequest(name="mine", secret=SecretStr("fixed secret"))
    async with serving(policy_sessions(inference), tmp_path, asked) as (endpoints, _):
        assert endpoints["mine"].secret == "fixed secret"
        await converse(endpoints["mine"].url, "fixed secret", 3)
    trajectory = trajectory_from_json(json.loads((tmp_path / "mine.jsonl").read_text()))
    verify_trajectory(trajectory)
    assert [chunk.text for chunk in trajectory.chunks] == ["reply 1", "reply 2", "reply 3"]
    assert (len(trajectory.segments), trajectory.status) == (1, "dropped")
    assert inference.released == ["mine/0"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.calls.jsonl", "mine.jsonl"]


async def test_the_policys_context_bounds_the_reply_before_it_overflows(tmp_path):
    inference = ScriptedInference(lambda prompt: "x" * 30, CharacterTokenizer(64))
    async with (
        serving(policy_sessions(inference), tmp_path, SessionRequest(name="s")) as (endpoints, _),
        client(endpoints["s"].url, endpoints["s"].secret) as http,
    ):
        fits = await http.post("/v1/chat/completions", json=chat_body("y" * 38))
        over = await http.post("/v1/chat/completions", json=chat_body("y" * 60))
    assert fits.json()["choices"][0]["finish_reason"] == "length"
    assert (over.status_code, over.json()["error"]["code"]) == (400, "context_length_exceeded")


async def test_sessions_are_opened_listed_and_ended_over_http(tmp_path):
    async with serving(policy_sessions(), tmp_path, SessionRequest(name="first")) as (endpoints, _):
        url = endpoints["first"].url
        async with client(url, ADMIN) as admin:
            opened = await admin.post("/sessions", json={"name": "second", "calls": 1})
            assert opened.status_code == 201
            given = opened.json()
            assert (given["name"], given["url"], given["socket"], given["model"]) == ("second", url, None, "policy")
            await converse(url, given["secret"], 1)
            assert (await admin.get("/sessions")).json() == {"sessions": ["first", "second"]}
            ended = (await admin.delete("/sessions/second")).json()
            assert ended["calls"] == [{"api": "chat-completions", "status": 200, "chunk": 0, "error": ""}]
            files = [tmp_path / "second.jsonl", tmp_path / "second.calls.jsonl"]
            assert ended["files"] == [str(file) for file in files]
            assert all(file.exists() for file in files)
            assert (await admin.delete("/sessions/second")).status_code == 404
            again = await admin.post("/sessions", json={"name": "second"})
            assert (again.status_code, "already" in again.text) == (409, True)


@pytest.mark.parametrize(
    "body", [{}, {"name": "../x"}, {"name": ""}, {"name": "a/b"}, {"name": "a", "calls": 0}, {"name": "a", "b": 1}]
)
async def test_sessions_that_cannot_be_opened_are_refused(tmp_path, body):
    async with (
        serving(policy_sessions(), tmp_path, SessionRequest(name="first")) as (endpoints, _),
        client(endpoints["first"].url, ADMIN) as admin,
    ):
        assert (await admin.post("/sessions", json=body)).status_code == 400
        assert (await admin.post("/sessions", content=b"{")).status_code == 400
        taken = {"name": "other", "secret": endpoints["first"].secret}
        assert (await admin.post("/sessions", json=taken)).status_code == 409
        assert not list(tmp_path.glob("other*"))
        assert (await admin.put("/sessions", json=body)).status_code == 405


async def test_sessions_are_opened_by_the_gateways_own_secret_alone(tmp_path):
    asked = SessionRequest(name="first")
    async with serving(policy_sessions(), tmp_path, asked) as (endpoints, _):
        for secret in (endpoints["first"].secret, "wrong"):
            async with client(endpoints["first"].url, secret) as other:
                assert (await other.post("/sessions", json={"name": "x"})).status_code == 401
                assert (await other.delete("/sessions/first")).status_code == 401
    async with (
        serving(policy_sessions(), tmp_path / "closed", asked, admin=None) as (endpoints, _),
        client(endpoints["first"].url, "none") as other,
    ):
        assert (await other.post("/sessions", json={"name": "x"})).status_code == 404


async def test_a_served_models_calls_are_kept_as_they_come(tmp_path):
    model = Served()
    source = ServedSessions(model, max_tokens=50)
    async with (
        serving(source, tmp_path, SessionRequest(name="s")) as (endpoints, _),
        client(endpoints["s"].url, endpoints["s"].secret) as http,
    ):
        bodies = [chat_body("Go.", max_tokens=9), chat_body("Go.", tool_choice="none"), chat_body("Go.")]
        answers = [(await http.post("/v1/chat/completions", json=body)).json() for body in bodies]
        count = await http.post("/v1/messages/count_tokens", json=chat_body("Go."))
        lines = [json.loads(line) for line in (tmp_path / "s.calls.jsonl").read_text().splitlines()]
    assert [each["max_tokens"] for each in model.asked] == [9, 50, 50]
    assert count.json() == {"input_tokens": 42}
    ids = {answer["choices"][0]["message"]["tool_calls"][0]["id"] for answer in answers}
    assert len(ids) == 3
    assert [line["reply"]["content"] for line in lines] == ["served"] * 3


@pytest.mark.parametrize("file", ["s.jsonl", "s.calls.jsonl"])
async def test_a_session_is_not_kept_over_another(tmp_path, file):
    earlier = tmp_path / file
    earlier.write_text("earlier")
    with pytest.raises(RunFolderError, match=f"choose another name, or move .*{file}"):
        async with serving(policy_sessions(), tmp_path, SessionRequest(name="s")):
            pass
    assert earlier.read_text() == "earlier"


async def test_a_signal_ends_the_service_in_order(tmp_path):
    async with serving(policy_sessions(), tmp_path, SessionRequest(name="s")) as (endpoints, task):
        await converse(endpoints["s"].url, endpoints["s"].secret, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 10)
    assert (tmp_path / "s.jsonl").exists()


async def test_a_session_is_not_kept_in_a_file_that_an_open_one_will_write(tmp_path):
    asked = SessionRequest(name="s.calls")
    async with (
        serving(policy_sessions(), tmp_path, asked) as (endpoints, _),
        client(endpoints["s.calls"].url, ADMIN) as admin,
    ):
        refused = await admin.post("/sessions", json={"name": "s"})
        assert (refused.status_code, "choose another name" in refused.text) == (409, True)


async def test_sessions_are_kept_whatever_befalls_another(tmp_path):
    class Unreleasing(ScriptedInference):
        async def release(self, session: str) -> None:
            if session.startswith("first"):
                raise InferenceError("the engine is gone")
            await super().release(session)

    inference = Unreleasing(lambda prompt: "fine")
    sessions = [SessionRequest(name=name) for name in ("first", "second", "third")]
    async with serving(policy_sessions(inference), tmp_path, *sessions) as (endpoints, task):
        for endpoint in endpoints.values():
            await converse(endpoint.url, endpoint.secret, 1)
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(ended, InferenceError)
    assert sorted(path.name for path in tmp_path.glob("*[!s].jsonl")) == ["first.jsonl", "second.jsonl", "third.jsonl"]
