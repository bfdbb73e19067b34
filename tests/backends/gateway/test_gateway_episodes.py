"""A whole episode whose agent is a program: it speaks to the run's policy over HTTP, and is recorded as any other."""

import asyncio
import itertools
import json
import re
from dataclasses import dataclass, field

import httpx2
import openai
import pytest

from tumbler.contracts.agent import Limits, Outcome
from tumbler.contracts.environment import Task
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import Sampling
from tumbler.contracts.values import ToolCall
from tumbler.rollout.runner import EpisodeParts, LocalEpisodeRunner, NamedEnvironment
from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference, TwoStepEnvironment, TwoStepSettings
from tumbler.trajectory import Component, verify_trajectory
from tumbler_backends.gateway.gateway import HttpGateway
from tumbler_backends.gateway.settings import GatewaySettings

COMPONENT = Component(id="test", version="0", settings_hash="0")
TOOLS = [
    {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "say", "parameters": {"type": "object"}}},
]
MAIN, HELPER = ({"role": "system", "content": text} for text in ("You solve it.", "You help."))


def call(name: str, **arguments) -> str:
    """Return a call with spaces that no JSON library would write: only the sampled words have them."""
    return f'<tool_call>\n{{"name":"{name}",  "arguments": {json.dumps(arguments)}}}\n</tool_call> '


def speak(prompt: str) -> str:
    """Solve the task: look, summarise when asked, say the word; helpers only talk."""
    last = prompt.rsplit("user\n", 1)[-1].removesuffix("assistant\n").strip()
    if "You help." in prompt:
        return f"  I heard {len(last)} letters.  "
    if last == "Summarise.":
        return f" The word is {prompt.split('word: ')[1][:4]}. "
    if "The word is" in last:
        return call("say", word=last.split("The word is ")[1][:4])
    if "word: " in last:
        return " I have seen it. "
    return f"I look. {call('look')}\n<tool_call>oops</tool_call>"


class Engine(ScriptedInference):
    """Answers the two equal calls only when it has both."""

    def __init__(self) -> None:
        super().__init__(speak, CharacterTokenizer(8192))
        self._both = asyncio.Barrier(2)

    async def generate(self, request):
        last = self.tokenizer.decode(request.token_ids).rsplit("user\n", 1)[-1]
        if "word: " in last:
            await self._both.wait()
        return await super().generate(request)


@dataclass
class Program:
    """A program that knows of the run only what `serve` tells, and acts on the world by itself."""

    world: TwoStepEnvironment
    answers: list = field(default_factory=list)

    async def run(self, episode) -> Outcome:
        async with (
            episode.serve() as endpoint,
            openai.AsyncOpenAI(
                base_url=f"{endpoint.url}/v1",
                api_key=endpoint.secret,
                http_client=httpx2.AsyncClient(trust_env=False),
                max_retries=0,
            ) as client,
        ):
            self.client = client
            await self.solve()
        return Outcome(reason="finished")

    async def ask(self, *messages, **fields):
        answer = await self.client.chat.completions.create(
            model="policy", messages=list(messages), logprobs=True, **fields
        )
        self.answers.append(answer)
        return answer.choices[0].message

    async def act(self, message) -> list[dict]:
        results = []
        for each in message.tool_calls or ():
            arguments = json.loads(each.function.arguments)
            done = await self.world.step(ToolCall(name=each.function.name, arguments=arguments))
            results.append({"role": "tool", "tool_call_id": each.id, "content": done.observation})
        return results

    async def solve(self) -> None:
        said = [MAIN, {"role": "user", "content": "Solve it."}]
        looked = await self.ask(*said, tools=TOOLS)
        said += [looked, *await self.act(looked)]
        # Two equal calls and three helpers at once, then a compaction, and the conversation that it leaves.
        seen, *_ = await asyncio.gather(
            self.ask(*said, tools=TOOLS), self.ask(*said, tools=TOOLS), *(self.help(number) for number in range(3))
        )
        summary = await self.ask(*said, seen, {"role": "user", "content": "Summarise."}, tools=TOOLS)
        fresh = [MAIN, {"role": "user", "content": f"Go on. {summary.content}"}]
        spoken = await self.ask(*fresh, tools=TOOLS)
        fresh += [spoken, *await self.act(spoken), {"role": "user", "content": "Thanks."}]
        await self.ask(*fresh, tools=TOOLS)

    async def help(self, number: int) -> None:
        said = [HELPER, {"role": "user", "content": "x" * (number + 1)}]
        for _ in range(3):
            said += [await self.ask(*said), {"role": "user", "content": "And?"}]


@pytest.fixture
async def episode():
    """Run the episode and return the program, the engine and the trajectory."""
    world = TwoStepEnvironment(TwoStepSettings())
    program, inference = Program(world), Engine()
    gateway = HttpGateway(GatewaySettings())
    parts = EpisodeParts(
        environments={"two-step": NamedEnvironment(build=lambda: world, component=COMPONENT)},
        agent=program,
        agent_component=COMPONENT,
        strategies=[],
        strategy_components=(),
        tokenizer=inference.tokenizer,
        inference=inference,
        sandboxes=None,
        limits=Limits(seconds=60),
        gateway=gateway,
    )
    request = RolloutRequest(
        id="r",
        task=Task(id="train-0-0", instruction="Look, then say the word."),
        seed=1,
        group="g",
        sampling=Sampling(max_tokens=256),
        env="two-step",
    )
    await gateway.start()
    try:
        trajectory = await LocalEpisodeRunner(parts)(request)
    finally:
        await gateway.close()
    return program, inference, trajectory


async def test_an_episode_over_http_is_recorded_whole(episode):
    program, _, trajectory = episode
    verify_trajectory(trajectory)
    assert (trajectory.status, trajectory.status_reason, trajectory.success) == ("completed", "finished", True)
    assert len(trajectory.chunks) == len(program.answers) == 15
    main = [segment for segment in trajectory.segments if segment.agent_id == "main"]
    helpers = [segment for segment in trajectory.segments if segment.agent_id != "main"]
    assert [segment.cause for segment in main] == ["start", "parallel", "rewrite"]
    assert {segment.agent_id for segment in helpers} == {"agent-1"}
    assert (len(main), len(helpers)) == (3, 3)


async def test_the_ids_that_were_sent_are_those_that_are_recorded(episode):
    program, inference, trajectory = episode
    told = sorted((tuple(each.prompt_token_ids), tuple(each.choices[0].token_ids)) for each in program.answers)
    recorded = []
    for chunk in trajectory.chunks:
        ids = trajectory.segments[chunk.segment].token_ids
        recorded.append((ids[: chunk.start], ids[chunk.start : chunk.end]))
    assert sorted(recorded) == told
    assert sorted(prompt for prompt, _ in recorded) == sorted(request.token_ids for request in inference.requests)
    logprobs = [[each.logprob for each in answer.choices[0].logprobs.content] for answer in program.answers]
    assert sorted(map(list, (chunk.behaviour_logprobs for chunk in trajectory.chunks))) == sorted(logprobs)
    assert all(chunk.trainable for chunk in trajectory.chunks)


async def test_each_sampled_token_is_in_one_chunk_and_no_other_is(episode):
    _, _, trajectory = episode
    for segment in trajectory.segments:
        spans = [(each.start, each.end) for each in trajectory.chunks if each.segment == segment.id]
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        text = "".join(map(chr, segment.token_ids))
        # What is not sampled in this segment was not: a copy of another's beginning, or the client's words.
        assert text.endswith("\x03")
    told = [chunk.text for chunk in trajectory.chunks if chunk.tool_calls]
    assert sorted(text.count("<tool_call>") for text in told) == [1, 2]


async def test_calls_and_what_they_brought_stand_with_their_chunks(episode):
    _, _, trajectory = episode
    by_call = {chunk.tool_calls[0].name: chunk for chunk in trajectory.chunks if chunk.tool_calls}
    assert re.search(r"^word: \w{4}$", by_call["look"].observation, re.MULTILINE)
    assert by_call["look"].errored
    assert (by_call["say"].observation, by_call["say"].errored) == ("said", False)
    assert len([chunk for chunk in trajectory.chunks if chunk.tool_calls]) == 2
