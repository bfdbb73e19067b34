"""Whose conversation a call is: a main agent and its helpers in one session, each with segments of its own."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.backends.gateway.conftest import TOOL, Policy, running

from tumbler.contracts.chat import ChatMessage, ChatReply
from tumbler.contracts.inference import Sampling
from tumbler.contracts.values import ToolSpec
from tumbler.dialects import dialect
from tumbler.testing.fakes import ScriptedInference
from tumbler.trajectory import verify_trajectory
from tumbler_backends.gateway.history import History
from tumbler_backends.gateway.standalone.recorded import RecordedPolicy

OTHER = {"type": "function", "function": {"name": "other", "description": "", "parameters": {}}}
MAIN = {"role": "system", "content": "You are the main one."}
HELPER = {"role": "system", "content": "You help."}


def agents(policy: Policy) -> list[str]:
    return [asked.options["agent_id"] for asked in policy.asked]


async def test_a_helper_with_a_system_prompt_of_its_own_is_another_agent(bench):
    policy = Policy(lambda messages: f" {len(messages)} ")
    client = await bench.open(policy)
    first = await client.say(MAIN, "Go.", tools=[TOOL])
    helped = await client.say(HELPER, "Look there.", tools=[TOOL])
    await client.say(HELPER, "Look there.", helped, "And there.", tools=[TOOL])
    await client.say(MAIN, "Go.", first, "On.", tools=[TOOL])
    await client.say({"role": "system", "content": "Name this."}, "Go.")
    await client.say(HELPER, "Look elsewhere.", tools=[TOOL])
    assert agents(policy) == ["main", "agent-1", "agent-1", "main", "agent-2", "agent-1"]
    assert [asked.options["cause"] for asked in policy.asked] == [None] * 6


async def test_a_helper_with_other_tools_is_another_agent(bench):
    policy = Policy()
    client = await bench.open(policy)
    await client.say("Go.", tools=[TOOL])
    await client.say("Look.", tools=[OTHER])
    await client.say("Look.")
    assert agents(policy) == ["main", "agent-1", "agent-2"]


async def test_who_shares_a_history_is_the_same_agent_whatever_comes_with_it(bench):
    policy = Policy(lambda messages: f" {len(messages)} ")
    client = await bench.open(policy)
    first = await client.say(MAIN, "Go.", tools=[TOOL])
    await client.say(MAIN, "Go.", first, "On.", tools=[TOOL, OTHER])
    await client.say({"role": "system", "content": "It is noon now."}, "Go.", first, "On.", tools=[TOOL])
    assert agents(policy) == ["main"] * 3
    assert [asked.options["cause"] for asked in policy.asked] == [None, "tools", None]


async def test_a_helper_that_goes_on_with_the_main_agents_tools_stays_itself(bench):
    policy = Policy(lambda messages: f" {len(messages)} ")
    client = await bench.open(policy)
    await client.say(MAIN, "Go.", tools=[TOOL])
    helped = await client.say(MAIN, "Look.", tools=[OTHER])
    await client.say(MAIN, "Look.", helped, "On.", tools=[TOOL])
    assert agents(policy) == ["main", "agent-1", "agent-1"]
    assert policy.asked[-1].options["cause"] == "tools"


async def test_a_compaction_and_what_comes_after_it_stay_with_their_agent(bench):
    policy = Policy(lambda messages: f" {len(messages)} ")
    client = await bench.open(policy)
    for system in (MAIN, HELPER):
        said = await client.say(system, "Go.", tools=[TOOL])
        await client.say(system, "Go.", said, "Summarise the conversation.", tools=[TOOL])
        await client.say(system, "This was done: …", tools=[TOOL])
    assert agents(policy) == ["main"] * 3 + ["agent-1"] * 3


async def test_counting_tokens_makes_nobody_an_agent(bench):
    policy = Policy()
    client = await bench.open(policy)
    body = {"system": "Other.", "messages": [{"role": "user", "content": "Go."}]}
    assert (await client.post("/v1/messages/count_tokens", body)).status_code == 200
    await client.say(MAIN, "Go.")
    assert agents(policy) == ["main"]


async def test_a_record_keeps_agents_apart_and_their_ids():
    async with running() as bench:
        inference = ScriptedInference(lambda prompt: f" {len(prompt)} ")
        policy = RecordedPolicy("episode", inference, Sampling(max_tokens=64), 0)
        client = await bench.open(policy)
        first = await client.say(MAIN, "Go.", tools=[TOOL])
        helped = await client.say(HELPER, "Look.")
        second = await client.say(MAIN, "Go.", first, "On.", tools=[TOOL])
        await client.say(HELPER, "Look.", helped, "Again.")
        await client.say(MAIN, "Go.", first, "On.", second, "Further.", tools=[TOOL])
        trajectory = policy.trajectory()
    verify_trajectory(trajectory)
    assert [(each.agent_id, each.cause, each.parent) for each in trajectory.segments] == [
        ("main", "start", None),
        ("agent-1", "sub-agent", 0),
    ]
    assert [chunk.segment for chunk in trajectory.chunks] == [0, 1, 0, 1, 0]


WORDS = st.sampled_from(["a", "b", " fine ", "fine"])
EDITS = st.lists(
    st.tuples(st.sampled_from(["say", "answer", "drop", "change", "system", "tools"]), WORDS), min_size=1, max_size=12
)


@given(edits=EDITS)
def test_what_was_worked_out_before_changes_nothing(edits):
    """The same requests as objects that were seen before, and as new ones, are the same prompts."""
    warm, cold = History(dialect("hermes")), History(dialect("hermes"))
    said, system, tools = [ChatMessage(role="user", content="Go.")], "", [ToolSpec(name="look", description="")]
    for number, (edit, words) in enumerate(edits):
        if edit == "say":
            said.append(ChatMessage(role="user", content=words))
        elif edit == "answer" and said:
            said.append(ChatMessage(role="assistant", content=words.strip()))
        elif edit == "drop":
            del said[:1]
        elif edit == "change" and said:
            said[len(said) // 2] = ChatMessage(role="user", content=words)
        elif edit == "system":
            system = words
        else:
            tools = [ToolSpec(name=words.strip(), description="")]
        messages = [*([ChatMessage(role="system", content=system)] if system else []), *said]
        told = []
        for history, given_ in ((warm, messages), (cold, copy.deepcopy(messages))):
            prompt = history.prompt(given_, tools if history is warm else copy.deepcopy(tools))
            agent = history.agent(prompt)
            told.append((prompt.messages, prompt.cause, prompt.place, prompt.tools, agent))
            text = f"{words}{number % 2}"
            reply = ChatReply(message=ChatMessage(role="assistant", content=text.strip()), text=text)
            history.remember(prompt, reply, agent=agent, whole=number % 3 != 0)
        assert told[0] == told[1]
        if number % 4 == 0:
            said.append(ChatMessage(role="assistant", content=f"{words}{number % 2}".strip()))


@pytest.mark.parametrize("parallel", [2, 5])
async def test_conversations_of_one_kind_at_once_are_one_agent(bench, parallel):
    import asyncio

    policy = Policy()
    client = await bench.open(policy)
    await asyncio.gather(*(client.say(MAIN, f"Go to {number}.") for number in range(parallel)))
    assert agents(policy) == ["main"] * parallel
