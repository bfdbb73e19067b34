"""Clients echo the policy's replies; its sampled words are put back, and what differs is told."""

import json

import pytest
from tests.backends.gateway.conftest import CALL, TOOL, Policy

from tumbler.contracts.chat import ChatCall, ChatMessage, ChatReply
from tumbler.contracts.inference import Sampling
from tumbler.contracts.values import ToolSpec
from tumbler.dialects import dialect
from tumbler.testing.fakes import ScriptedInference
from tumbler.trajectory import verify_trajectory
from tumbler_backends.gateway.history import History
from tumbler_backends.gateway.standalone.recorded import RecordedPolicy

RAW = '  <think>\nhm\n</think>\n\nI look. \n<tool_call>{"name":"look",  "arguments": {"at": 1.0}}</tool_call>  '
OTHER = {"type": "function", "function": {"name": "other", "description": "", "parameters": {}}}


async def turn(bench, second, *, first_tools=(TOOL,), tools=(TOOL,), raw=RAW):
    """Make two calls, the second with a history that `second` makes of the reply; return what the policy was asked."""
    policy = Policy(lambda messages: raw)
    client = await bench.open(policy)
    message = await client.say("Go.", tools=list(first_tools))
    answers = [
        {"role": "tool", "tool_call_id": call["id"], "content": "dark"} for call in message.get("tool_calls") or []
    ]
    await client.say("Go.", second(message), *answers, "On.", tools=list(tools))
    return policy.asked[1]


def edited(**changes):
    return lambda message: {**message, **changes}


def with_arguments(arguments: str):
    def change(message):
        call = message["tool_calls"][0]
        return {**message, "tool_calls": [{**call, "function": {**call["function"], "arguments": arguments}}]}

    return change


async def test_an_equal_echo_becomes_the_sampled_words(bench):
    asked = await turn(bench, lambda message: message)
    assert [each.content for each in asked.messages if each.role == "assistant"] == [RAW]
    assert asked.options["cause"] is None
    assert asked.messages[-2].content == "<tool_response>\ndark\n</tool_response>"


@pytest.mark.parametrize("arguments", ['{ "at" : 1 }', '{"at":1.0}', '{"at": 10e-1}'])
async def test_arguments_are_compared_as_json_says_that_they_are(bench, arguments):
    asked = await turn(bench, with_arguments(arguments))
    assert asked.messages[2].content == RAW
    assert asked.options["cause"] is None


async def test_ids_that_a_client_makes_anew_change_nothing(bench):
    def renamed(message):
        return {**message, "tool_calls": [{**message["tool_calls"][0], "id": "mine"}]}

    asked = await turn(bench, renamed)
    assert (asked.messages[2].content, asked.options["cause"]) == (RAW, None)


@pytest.mark.parametrize(
    "change",
    [
        edited(content="I look."),
        edited(content="I look. \n"),
        edited(content=""),
        edited(reasoning_content=None),
        edited(tool_calls=None),
        with_arguments('{"at": 2}'),
        with_arguments('{"at": true}'),
        with_arguments('{"at": "1.0"}'),
    ],
)
async def test_an_echo_that_differs_is_rendered_as_it_came_and_told_as_drift(bench, change):
    asked = await turn(bench, change)
    assert RAW not in [each.content for each in asked.messages]
    assert asked.options["cause"] == "drift"


async def test_drift_is_told_once(bench):
    policy = Policy(lambda messages: f" {len(messages)} ")
    client = await bench.open(policy)
    first = await client.say("Go.")
    stripped = {**first, "content": first["content"].strip()}
    second = await client.say("Go.", stripped, "On.")
    await client.say("Go.", stripped, "On.", second, "And on.")
    assert [each.options["cause"] for each in policy.asked] == [None, "drift", None]
    assert [each.content for each in policy.asked[2].messages] == ["Go.", "1", "On.", " 3 ", "And on."]


async def test_a_reply_that_was_cut_at_a_stop_sequence_has_drifted_when_it_returns(bench):
    policy = Policy(lambda messages: "Thought.\nObservation: made up")
    client = await bench.open(policy)
    message = await client.say("Go.", stop=["\nObservation:"])
    await client.say("Go.", message, "Observation: real", stop=["\nObservation:"])
    assert [each.content for each in policy.asked[1].messages] == ["Go.", "Thought.", "Observation: real"]
    assert policy.asked[1].options["cause"] == "drift"


async def test_another_list_of_tools_is_told(bench):
    assert (await turn(bench, lambda message: message, tools=(TOOL, OTHER))).options["cause"] == "tools"
    assert (await turn(bench, lambda message: message, first_tools=(TOOL, OTHER))).options["cause"] == "tools"
    assert (await turn(bench, lambda message: message, tools=())).options["cause"] == "tools"


async def test_messages_that_the_policy_never_wrote_are_no_drift(bench):
    policy = Policy()
    client = await bench.open(policy)
    await client.say("2+2?", {"role": "assistant", "content": "4"}, "3+3?")
    assert [each.content for each in policy.asked[0].messages] == ["2+2?", "4", "3+3?"]
    assert policy.asked[0].options["cause"] is None


async def test_a_history_that_the_client_rewrote_is_no_drift_and_keeps_the_replies_in_it(bench):
    policy = Policy(lambda messages: f" {len(messages)} ")
    client = await bench.open(policy)
    message = await client.say("A long first message.")
    await client.say("A summary.", message, "On.")
    assert [each.content for each in policy.asked[1].messages] == ["A summary.", " 1 ", "On."]
    assert policy.asked[1].options["cause"] is None


async def test_words_of_one_session_are_none_of_another(bench):
    message = await (await bench.open(Policy(lambda messages: RAW), name="one")).say("Go.", tools=[TOOL])
    policy = Policy()
    await (await bench.open(policy, name="two")).say("Go.", message, "On.", tools=[TOOL])
    assert RAW not in [each.content for each in policy.asked[0].messages]
    assert policy.asked[0].options["cause"] is None


async def test_system_messages_further_on_are_a_users(bench):
    policy = Policy()
    client = await bench.open(policy)
    reminder = {"role": "system", "content": "Remember."}
    await client.say({"role": "system", "content": "A."}, {"role": "developer", "content": "B."}, "Go.", reminder)
    assert [(each.role, each.content) for each in policy.asked[0].messages] == [
        ("system", "A.\n\nB."),
        ("user", "Go."),
        ("user", "Remember."),
    ]


async def test_ids_of_calls_are_unique_in_a_session(bench):
    client = await bench.open(Policy(lambda messages: f"{CALL}\n{CALL}"))
    ids = [call["id"] for _ in range(3) for call in (await client.say("Go.", tools=[TOOL]))["tool_calls"]]
    assert len(set(ids)) == 6


def reply(text: str, content: str, *calls: ChatCall) -> ChatReply:
    return ChatReply(message=ChatMessage(role="assistant", content=content, calls=calls), text=text)


def test_of_two_replies_that_look_the_same_the_one_at_its_place_is_taken():
    history = History(dialect("hermes"))
    first, second = (ChatMessage(role="user", content=each) for each in ("first", "second"))
    for question, text in ((first, " same "), (second, "same\n")):
        history.remember(history.prompt([question], ()), reply(text, "same"), agent="main", whole=True)
    echo = ChatMessage(role="assistant", content="same")
    for question, text in ((first, " same "), (second, "same\n")):
        prompt = history.prompt([question, echo], ())
        assert prompt.messages[1].content == text


def test_of_two_replies_at_one_place_the_one_with_the_ids_is_taken():
    history = History(dialect("hermes"))
    question = ChatMessage(role="user", content="go")
    calls = [ChatCall(id=identity, name="look", arguments={}) for identity in ("a", "b", "c")]
    for call in calls:
        history.remember(history.prompt([question], ()), reply(f"raw {call.id}", "", call), agent="main", whole=True)
    for call in calls:
        echo = ChatMessage(role="assistant", calls=(call,))
        assert history.prompt([question, echo], ()).messages[1].content == f"raw {call.id}"


def test_an_echo_that_was_known_is_of_the_latest_of_equal_replies():
    history = History(dialect("hermes"))
    question, echo = ChatMessage(role="user", content="go"), ChatMessage(role="assistant", content="same")
    for text in (" same ", "same\n"):
        history.remember(history.prompt([question], ()), reply(text, "same"), agent="main", whole=True)
        assert history.prompt([question, echo], ()).messages[1].content == text


def test_the_order_of_tools_is_part_of_the_prompt():
    history = History(dialect("hermes"))
    one, two = (ToolSpec(name=name, description="") for name in ("one", "two"))
    question = ChatMessage(role="user", content="go")
    history.remember(history.prompt([question], (one, two)), reply("raw", "raw"), agent="main", whole=True)
    echo = ChatMessage(role="assistant", content="raw")
    assert history.prompt([question, echo], (one, two)).cause is None
    assert history.prompt([question, echo], (two, one)).cause == "tools"


async def test_a_history_that_the_dialect_cannot_write_is_a_bad_request(bench):
    from tests.backends.gateway.conftest import running

    async with running(dialect="plain") as plain:
        client = await plain.open(Policy())
        call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        several = {"role": "assistant", "content": "", "tool_calls": [call, {**call, "id": "b"}]}
        response = await client.chat("Go.", several, "On.")
        assert response.status_code == 400
        assert "use the dialect hermes" in json.dumps(response.json())


async def test_a_record_names_why_its_segments_were_opened(bench):
    """The run's own recorder: an equal echo goes on in its segment; other tools, drift and rewrites open new ones."""
    inference = ScriptedInference(lambda prompt: f" {len(prompt)} ")
    policy = RecordedPolicy("episode", inference, Sampling(max_tokens=64), 0)
    client = await bench.open(policy)
    tools = {"tools": [TOOL]}
    first = await client.say("Go.", **tools)
    second = await client.say("Go.", first, "On.", **tools)
    await client.say("Go.", first, "On.", second, "And on.")
    stripped = {**second, "content": second["content"].strip()}
    await client.say("Go.", first, "On.", stripped, "And on.", **tools)
    await client.say("A summary.", **tools)
    trajectory = policy.trajectory()
    verify_trajectory(trajectory)
    assert [chunk.segment for chunk in trajectory.chunks] == [0, 0, 1, 2, 3]
    assert [segment.cause for segment in trajectory.segments] == ["start", "tools", "drift", "rewrite"]
    kept = trajectory.segments[0].token_ids
    shared = len(kept) - len(second["content"]) - 1
    assert trajectory.segments[2].token_ids[:shared] == kept[:shared]
