"""Calls are recorded to a file, and sessions are answered from one."""

import json

import pytest
from tests.backends.gateway.conftest import CALL, TOOL, Policy, chat_body, running

from tumbler.errors import ContextOverflowError, RunFolderError
from tumbler_backends.gateway.gateway import HttpGateway
from tumbler_backends.gateway.settings import GatewaySettings

RAW = f"<think>\nhm\n</think>\n\n I look. \n{CALL}"


async def converse(client) -> list[dict]:
    """Hold a conversation of three calls, the last of which overflows, and return the answers without their times."""
    first = await client.chat("Go.", tools=[TOOL], logprobs=True)
    message = first.json()["choices"][0]["message"]
    answer = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "dark"}
    second = await client.chat("Go.", message, answer, "On.", tools=[TOOL])
    third = await client.chat("overflow")
    assert [each.status_code for each in (first, second, third)] == [200, 200, 400]
    return [{**each.json(), "created": 0} for each in (first, second, third)]


def speak(messages):
    return ContextOverflowError("too long") if messages[-1].content == "overflow" else RAW


@pytest.fixture
async def recorded(tmp_path):
    path = tmp_path / "calls" / "calls.jsonl"
    async with running(record=path) as bench:
        answers = await converse(await bench.open(Policy(speak), name="first"))
        await (await bench.open(Policy(lambda messages: "other"), name="second")).say("Hello.")
    return path, answers


async def test_every_call_is_a_line(recorded):
    path, _ = recorded
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["session"], line["number"], line["status"]) for line in lines] == [
        ("first", 0, 200),
        ("first", 1, 200),
        ("first", 2, 400),
        ("second", 0, 200),
    ]
    assert lines[0]["body"]["messages"] == [{"role": "user", "content": "Go."}]
    assert (lines[0]["reply"]["text"], lines[1]["reply"]["chunk"]) == (RAW, 1)
    assert lines[0]["reply"]["sampled"]["prompt_ids"] == [1, 2]
    assert "".join(chr(token) for token in lines[0]["reply"]["sampled"]["ids"]) == RAW
    assert lines[2]["error"]["kind"] == "context_length_exceeded"


async def test_a_replay_answers_the_same_without_the_model(recorded):
    path, answers = recorded
    async with running(replay=path) as bench:
        policy = Policy()
        client = await bench.open(policy, name="first")
        assert await converse(client) == answers
        assert policy.asked == []
        other = await bench.open(policy, name="a new name")
        assert (await other.say("Hello."))["content"] == "other"
        with pytest.raises(RunFolderError, match="holds no more sessions"):
            await bench.open(policy, name="third")


async def test_a_request_that_differs_is_refused_with_the_difference(recorded):
    path, _ = recorded
    async with running(replay=path) as bench:
        client = await bench.open(Policy(), name="first")
        response = await client.chat("Go on.", tools=[TOOL])
        assert response.status_code == 400
        message = response.json()["error"]["message"]
        assert '-   "content": "Go."' in message
        assert '+   "content": "Go on."' in message
        assert response.headers["x-should-retry"] == "false"
        assert (await client.chat("Go.", tools=[TOOL], logprobs=True)).status_code == 200


async def test_a_call_after_the_last_recorded_one_is_refused(recorded):
    path, _ = recorded
    async with running(replay=path) as bench:
        client = await bench.open(Policy(), name="second")
        await client.say("Hello.")
        response = await client.chat("Hello.")
        assert (response.status_code, "the record ends" in response.text) == (400, True)


async def test_records_are_appended(recorded):
    path, _ = recorded
    async with running(record=path) as bench:
        await (await bench.open(Policy(), name="later")).say("Hello.")
    assert len(path.read_text().splitlines()) == 5


@pytest.mark.parametrize("content", ["{}\n", "no json\n", None])
async def test_a_file_that_cannot_be_replayed_is_told_at_the_start(tmp_path, content):
    path = tmp_path / "calls.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RunFolderError, match=r"calls\.jsonl cannot be read"):
        await HttpGateway(GatewaySettings(replay=path)).start()


def test_recording_a_replay_is_refused(tmp_path):
    with pytest.raises(ValueError, match="exclude each other"):
        GatewaySettings(record=tmp_path / "a", replay=tmp_path / "b")


async def test_agents_side_by_side_may_come_in_another_order_than_they_did(tmp_path):
    path = tmp_path / "calls.jsonl"
    count = iter(range(100))

    async def all_of(client, names: str) -> dict[str, list[str]]:
        """Make two calls for each name, in turns; in the second the first one's answer is repeated, ids and all."""
        said = {name: [] for name in names}
        for _ in range(2):
            for name in names:
                question = [{"role": "user", "content": name}, *said[name]]
                response = await client.post("/v1/responses", {"model": "m", "input": question})
                assert response.status_code == 200, response.text
                said[name] += response.json()["output"]
        return {name: [item["content"][0]["text"] for item in items] for name, items in said.items()}

    async with running(record=path) as bench:
        recorded = await all_of(await bench.open(Policy(lambda messages: f"answer {next(count)}")), "abc")
    for order in ("cab", "bca"):
        async with running(replay=path) as bench:
            assert await all_of(await bench.open(Policy()), order) == recorded


async def test_equal_requests_get_their_answers_in_the_order_of_the_record(tmp_path):
    path = tmp_path / "calls.jsonl"
    count = iter(range(100))
    async with running(record=path) as bench:
        client = await bench.open(Policy(lambda messages: f"answer {next(count)}"))
        recorded = [(await client.say("Again."))["content"] for _ in range(3)]
    async with running(replay=path) as bench:
        client = await bench.open(Policy())
        assert [(await client.say("Again."))["content"] for _ in range(3)] == recorded
        assert (await client.chat("Again.")).status_code == 400


async def test_line_separators_of_unicode_end_no_recorded_call(tmp_path):
    path = tmp_path / "calls.jsonl"
    words = "one\u2028two\u2029three\x85four\x1efive\x0csix"
    async with running(record=path) as bench:
        await (await bench.open(Policy(lambda messages: words))).say(words)
    async with running(replay=path) as bench:
        assert (await (await bench.open(Policy())).say(words))["content"] == words


async def test_a_call_that_was_not_written_whole_is_none(recorded):
    path, _ = recorded
    path.write_text(path.read_text() + '{"session": "third", "numb')
    async with running(replay=path) as bench:
        assert (await (await bench.open(Policy(), name="second")).say("Hello."))["content"] == "other"


async def test_a_replay_tells_the_stop_sequence_that_ended_a_message(tmp_path):
    path = tmp_path / "calls.jsonl"
    body = {**chat_body("Go."), "max_tokens": 50, "stop_sequences": ["Observation:"]}
    answers = []
    for settings in ({"record": path}, {"replay": path}):
        async with running(**settings) as bench:
            client = await bench.open(Policy(lambda messages: "Thought. Observation: made up"))
            answers.append((await client.post("/v1/messages", body)).json())
    assert [answer["stop_sequence"] for answer in answers] == ["Observation:"] * 2
