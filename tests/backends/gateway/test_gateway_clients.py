"""The SDKs of OpenAI and Anthropic against a real gateway: replies, streams, tools, errors, retries."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace

import anthropic
import httpx2
import openai
import pytest
from tests.backends.gateway.conftest import CALL, Policy, running

from tumbler.contracts.gateway import GatewaySession
from tumbler.errors import ContextOverflowError, InferenceError
from tumbler.testing.fakes import CharacterTokenizer

SCHEMA = {"type": "object", "properties": {"at": {"type": "number"}}}
RAW = f"<think>\nhm\n</think>\n\n I look. \n{CALL}"


@pytest.fixture
async def world() -> AsyncIterator[SimpleNamespace]:
    """Yield a gateway with one session, its policy, and a client of each SDK."""
    async with running(keep_alive=0.1, retry_grace=60) as bench:
        policy = Policy(lambda messages: RAW)
        client = await bench.open(policy)
        url, secret = client.endpoint.url, client.endpoint.secret
        async with (
            openai.AsyncOpenAI(
                base_url=f"{url}/v1", api_key=secret, http_client=httpx2.AsyncClient(trust_env=False)
            ) as of_openai,
            anthropic.AsyncAnthropic(
                base_url=url, api_key=secret, http_client=httpx2.AsyncClient(trust_env=False)
            ) as of_anthropic,
        ):
            yield SimpleNamespace(
                bench=bench, policy=policy, endpoint=client.endpoint, openai=of_openai, anthropic=of_anthropic
            )


def words(policy: Policy) -> list[str]:
    """Return what stands as the policy's own words in its last prompt."""
    return [message.content for message in policy.asked[-1].messages if message.role == "assistant"]


async def test_a_conversation_over_chat_completions(world):
    tools = [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}]
    said = [{"role": "user", "content": "Go."}]
    answer = await world.openai.chat.completions.create(model="m", messages=said, tools=tools)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    said += [message.model_dump(), {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "dark"}]
    await world.openai.chat.completions.create(model="m", messages=said, tools=tools)
    assert words(world.policy) == [RAW]
    assert world.policy.asked[-1].options["cause"] is None


async def test_a_stream_over_chat_completions(world):
    said = [{"role": "user", "content": "Go."}]
    async with world.openai.chat.completions.stream(model="m", messages=said) as stream:
        async for _ in stream:
            pass
        completion = await stream.get_final_completion()
    assert completion.choices[0].message.content == " I look. "
    assert completion.choices[0].message.tool_calls[0].function.name == "look"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_conversation_over_responses(world, streamed):
    tools = [{"type": "function", "name": "look", "parameters": SCHEMA, "strict": False}]
    asked = {"model": "m", "tools": tools}
    said: list = [{"role": "user", "content": "Go."}]
    if streamed:
        async with world.openai.responses.stream(input=said, **asked) as stream:
            async for _ in stream:
                pass
            answer = await stream.get_final_response()
    else:
        answer = await world.openai.responses.create(input=said, **asked)
    call = next(item for item in answer.output if item.type == "function_call")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "dark"}
    said += [item.model_dump(exclude_none=True) for item in answer.output] + [result]
    await world.openai.responses.create(input=said, **asked)
    assert words(world.policy) == [RAW]
    assert world.policy.asked[-1].options["cause"] is None


async def test_a_response_goes_on_from_another_by_id(world):
    first = await world.openai.responses.create(model="m", input="Go.", instructions="Be brief.")
    second = await world.openai.responses.create(
        model="m", input="On.", previous_response_id=first.id, instructions="Be long."
    )
    await world.openai.responses.create(model="m", input="And on.", previous_response_id=second.id)
    assert [[(each.role, each.content) for each in asked.messages] for asked in world.policy.asked] == [
        [("system", "Be brief."), ("user", "Go.")],
        [("system", "Be long."), ("user", "Go."), ("assistant", RAW), ("user", "On.")],
        [("user", "Go."), ("assistant", RAW), ("user", "On."), ("assistant", RAW), ("user", "And on.")],
    ]
    with pytest.raises(openai.BadRequestError) as caught:
        await world.openai.responses.create(model="m", input="On.", previous_response_id="resp_none")
    assert caught.value.code == "previous_response_not_found"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_conversation_over_messages(world, streamed):
    tools = [{"name": "look", "input_schema": SCHEMA}]
    asked = {"model": "m", "max_tokens": 50, "tools": tools, "system": "Be brief."}
    said: list = [{"role": "user", "content": "Go."}]
    if streamed:
        async with world.anthropic.messages.stream(messages=said, **asked) as stream:
            answer = await stream.get_final_message()
    else:
        answer = await world.anthropic.messages.create(messages=said, **asked)
    assert answer.stop_reason == "tool_use"
    call = answer.content[-1]
    said.append({"role": "assistant", "content": [block.model_dump() for block in answer.content]})
    said.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "dark"}]})
    await world.anthropic.messages.create(messages=said, **asked)
    assert words(world.policy) == [RAW]
    assert world.policy.asked[-1].options["cause"] is None


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_stop_sequence_that_ended_a_message_is_told(world, streamed):
    world.policy.speak = lambda messages: "Thought. Observation: made up"
    asked = {
        "model": "m",
        "max_tokens": 50,
        "stop_sequences": ["up", "Observation:"],
        "messages": [{"role": "user", "content": "Go."}],
    }
    if streamed:
        async with world.anthropic.messages.stream(**asked) as stream:
            answer = await stream.get_final_message()
    else:
        answer = await world.anthropic.messages.create(**asked)
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "Observation:")
    whole = await world.anthropic.messages.create(**(asked | {"stop_sequences": ["nowhere"]}))
    assert (whole.stop_reason, whole.stop_sequence) == ("end_turn", None)


async def test_tokens_are_counted(world):
    said = [{"role": "user", "content": "Go."}]
    count = await world.anthropic.messages.count_tokens(model="m", messages=said)
    assert count.input_tokens == len("user\nGo.\x03assistant\n")
    long = await world.anthropic.messages.count_tokens(
        model="m", messages=[{"role": "user", "content": "word " * 10_000}]
    )
    assert long.input_tokens == len("user\n\x03assistant\n") + 50_000
    assert world.policy.asked == []


async def test_models_are_listed(world):
    assert [model.id async for model in world.openai.models.list()] == ["policy"]
    assert [model.id async for model in world.anthropic.models.list()] == ["policy"]
    assert (await world.anthropic.models.retrieve("policy")).display_name == "policy"


async def test_an_overflow_is_an_error_that_agents_compact_at(world):
    world.policy.speak = lambda messages: ContextOverflowError("the prompt has 9000 tokens")
    with pytest.raises(openai.BadRequestError) as of_openai:
        await world.openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "Go."}])
    assert of_openai.value.code == "context_length_exceeded"
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        await world.anthropic.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": "Go."}])
    assert world.policy.begun == 2


async def test_a_failure_of_the_engine_is_tried_again_by_the_clients(world):
    answers = iter([InferenceError("down"), InferenceError("down"), "up"])
    world.policy.speak = lambda messages: next(answers)
    answer = await world.openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "Go."}])
    assert answer.choices[0].message.content == "up"


async def test_a_client_that_times_out_and_tries_again_gets_the_reply_of_its_first_try(world):
    world.policy.gate.clear()
    asking = asyncio.ensure_future(
        world.openai.with_options(timeout=0.3, max_retries=5).chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Go."}]
        )
    )
    (session,) = world.bench.gateway._sessions
    async with asyncio.timeout(20):
        while not session.flights._left:
            await asyncio.sleep(0.01)
    world.policy.gate.set()
    assert (await asyncio.wait_for(asking, 20)).choices[0].message.content == " I look. "
    assert (world.policy.begun, world.policy.cancelled) == (1, 0)


async def test_clients_do_not_try_a_session_again_that_is_over(world):
    await world.bench.gateway.end(world.endpoint)
    with pytest.raises(openai.APIStatusError) as of_openai:
        await world.openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "Go."}])
    assert of_openai.value.status_code == 410


async def test_wrong_secrets_are_authentication_errors_of_the_sdks(world):
    with pytest.raises(openai.AuthenticationError):
        await world.openai.with_options(api_key="wrong").models.list()
    with pytest.raises(anthropic.AuthenticationError):
        await world.anthropic.with_options(api_key="wrong").messages.create(
            model="m", max_tokens=5, messages=[{"role": "user", "content": "Go."}]
        )


class Strict(CharacterTokenizer):
    """A tokenizer whose template takes no two messages of the user in a row, and which knows who uses it."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def encode(self, text: str) -> list[int]:
        self.threads.add(threading.get_ident())
        return super().encode(text)

    def render(self, messages, *, add_generation_prompt: bool) -> str:
        roles = [message.role for message in messages]
        if any(pair == ("user", "user") for pair in itertools.pairwise(roles)):
            raise ValueError("roles must alternate")
        return super().render(messages, add_generation_prompt=add_generation_prompt)


async def test_tokens_are_counted_where_a_template_takes_no_two_messages_of_the_user(world):
    tokenizer = Strict()
    session = GatewaySession(name="strict", model=world.policy, tokenizer=tokenizer, max_tokens=64)
    endpoint = await world.bench.gateway.open(session)
    said = [{"role": "user", "content": "Go."}, {"role": "user", "content": "word " * 10_000}]
    client = world.anthropic.with_options(api_key=endpoint.secret)
    count = await client.messages.count_tokens(model="m", messages=said)
    assert count.input_tokens == len("user\nGo.\n\x03assistant\n") + 50_000
    # A tokenizer holds settings of the text that it is at, and the run's prompts are made with the same one.
    assert tokenizer.threads == {threading.get_ident()}
