"""What calls brought is recorded with the chunk that made them, once, as the client tells it."""

import json

import pytest
from tests.backends.gateway.conftest import CALL, TOOL, Policy

from tumbler.contracts.gateway import GatewaySession
from tumbler.contracts.values import ToolCall
from tumbler.testing.fakes import CharacterTokenizer

BROKEN = '<tool_call>\n{"name": "look", "arguments": oops\n</tool_call>'
LOOK = ToolCall(name="look", arguments={"at": 1.0})


class Noting:
    """Takes note of calls alone."""

    def __init__(self) -> None:
        self.notes: list[tuple] = []

    def note(self, call, result, *, chunk) -> None:
        self.notes.append((chunk, call, result.observation, result.errored))


class Rejecting(Noting):
    """Takes note of chunks without a call that can be carried out, too."""

    def reject(self, *, chunk, reason) -> None:
        self.notes.append((chunk, None, reason, True))


async def opened(bench, tools, *texts):
    """Open a session whose policy says one text after the other."""
    said = iter(texts)
    policy = Policy(lambda messages: next(said, "done"))
    session = GatewaySession(name="episode", model=policy, tokenizer=CharacterTokenizer(), max_tokens=256, tools=tools)
    return bench.client(await bench.gateway.open(session))


def result(call: dict, content: str, **fields) -> dict:
    return {"role": "tool", "tool_call_id": call["id"], "content": content, **fields}


async def test_each_call_is_noted_once_with_what_it_brought(bench):
    tools = Rejecting()
    client = await opened(bench, tools, f"{CALL}\n{CALL}", CALL)
    first = await client.say("Go.", tools=[TOOL])
    one, two = first["tool_calls"]
    told = ["Go.", first, result(two, "second"), result(one, "first")]
    second = await client.say(*told, tools=[TOOL])
    assert tools.notes == [(0, LOOK, "second", False), (0, LOOK, "first", False)]
    await client.say(*told, tools=[TOOL])
    assert len(tools.notes) == 2
    await client.say(*told, second, result(second["tool_calls"][0], "third"), tools=[TOOL])
    assert tools.notes[2:] == [(1, LOOK, "third", False)]


async def test_a_result_that_was_counted_first_is_noted_all_the_same(bench):
    tools = Rejecting()
    client = await opened(bench, tools, CALL)
    used = {"type": "tool_use", "id": "call_0_0", "name": "look", "input": {"at": 1}}
    brought = {"type": "tool_result", "tool_use_id": "call_0_0", "content": "dark"}
    spec = {"name": "look", "input_schema": {"type": "object"}}
    go = {"role": "user", "content": "Go."}
    body = {"model": "m", "max_tokens": 99, "messages": [go], "tools": [spec]}
    answer = (await client.post("/v1/messages", body)).json()
    assert answer["content"][0]["id"] == used["id"]
    body["messages"] += [{"role": "assistant", "content": [used]}, {"role": "user", "content": [brought]}]
    assert (await client.post("/v1/messages/count_tokens", body)).status_code == 200
    assert tools.notes == []
    assert (await client.post("/v1/messages", body)).status_code == 200
    assert tools.notes == [(0, LOOK, "dark", False)]


async def test_clients_that_name_calls_anew_are_understood_by_their_order(bench):
    tools = Rejecting()
    client = await opened(bench, tools, f"{CALL}\n{CALL}")
    said = await client.say("Go.", tools=[TOOL])
    one, two = said["tool_calls"] = [{**call, "id": f"x{place}"} for place, call in enumerate(said["tool_calls"])]
    await client.say("Go.", said, result(two, "second"), result(one, "first"), tools=[TOOL])
    assert [note[2] for note in tools.notes] == ["second", "first"]


async def test_results_of_calls_that_nobody_made_are_not_noted(bench):
    tools = Rejecting()
    client = await opened(bench, tools)
    call = {"id": "mine", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    await client.say("Go.", {"role": "assistant", "content": "", "tool_calls": [call]}, result(call, "dark"))
    await client.say("Go.", result({"id": "call_0_0"}, "dark"))
    assert tools.notes == []


@pytest.mark.parametrize("kind", [Noting, Rejecting])
async def test_a_broken_call_is_noted_as_one_that_failed(bench, kind):
    tools = kind()
    client = await opened(bench, tools, f"{CALL}\n{BROKEN}")
    said = await client.say("Go.", tools=[TOOL])
    ((chunk, call, reason, errored),) = tools.notes
    assert (chunk, errored, call) == (0, True, ToolCall(name="") if kind is Noting else None)
    assert "not JSON" in reason
    await client.say("Go.", said, result(said["tool_calls"][0], "dark"), tools=[TOOL])
    assert tools.notes[1:] == [(0, LOOK, "dark", False)]


async def test_words_that_are_no_calls_by_the_clients_wish_are_not_noted(bench):
    tools = Rejecting()
    client = await opened(bench, tools, BROKEN)
    assert json.dumps(await client.say("Go.", tools=[TOOL], tool_choice="none"))
    assert tools.notes == []
